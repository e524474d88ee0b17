"""The real services on one machine without Docker: set-up, stores, Airflow, and the commands behind the Makefile.

No DAG imports this package. `bootstrap` runs before there is an environment, so it needs nothing but Python itself.
"""
