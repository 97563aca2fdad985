"""The handlers that every agent brings along."""
