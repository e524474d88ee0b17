"""What deploy/kubernetes declares, against the schemas of Kubernetes, the keys of Airflow's chart, and the project itself."""
