"""The parts of `command-sender`: arguments, what it does with them, and how it shows the outcome."""
