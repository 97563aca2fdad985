"""How people see what a process does: log lines, metrics, and whether it is ready."""
