"""The Pipelines page of Airflow's UI: what it shows (a module for each view) and how (static/), without Airflow.

plugins/pipelines_page.py serves it, and checks permissions.
"""
