"""Assembles and runs processes: the server, the bridge, and the development set-up of both with an agent."""
