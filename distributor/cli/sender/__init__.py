"""The parts of `command-sender`: arguments, actions, and how results are shown."""
