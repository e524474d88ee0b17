"""Deletes data past its retention and prepares the days ahead: the DAG minutemark_housekeeping."""
