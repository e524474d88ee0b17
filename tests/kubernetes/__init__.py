"""Checks deploy/kubernetes against the schemas of Kubernetes, the keys of Airflow's chart, and the project itself."""
