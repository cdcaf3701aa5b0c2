"""The Images API v2: what clients of Glance speak. It imports neither Prefect nor flows."""
