"""Command lines: parse arguments, load settings, and call `distributor.app`."""
