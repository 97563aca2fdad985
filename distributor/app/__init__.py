"""Assembles and runs processes: server, bridge, and both with an agent for development."""
