"""Store drivers, which keep image data. They use neither Prefect nor the catalogue."""
