"""Hourly counts of the lakehouse in BigQuery: a load job for each hour's file, and a view of each hour's newest version.

It needs the packages of include/bigquery/requirements.txt. Only due.py needs the warehouse: the Cloud Function runs the
rest.
"""
