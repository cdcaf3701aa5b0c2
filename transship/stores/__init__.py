"""Store drivers: where image data are kept. No Prefect, no catalogue."""
