"""Prefect's REST API over plain HTTP: importing Prefect costs 1.8 s and 90 MB in each process."""
