"""Hourly counts of the lakehouse in BigQuery: a load job for each hour's file, and a view of the newest attempt of each hour.

It needs the packages of include/bigquery/requirements.txt, and nothing of Airflow or of the stores but in due.py: the Cloud
Function runs the rest.
"""
