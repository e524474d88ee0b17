"""The lakehouse: a pipeline's events as an Apache Iceberg table, for engines that read files, and counts of that table.

It needs the packages of include/lakehouse/requirements.txt, which nothing else in include/ imports.
"""
