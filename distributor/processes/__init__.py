"""Processes that this one starts: without forking, never outliving us, and started again should they end."""
