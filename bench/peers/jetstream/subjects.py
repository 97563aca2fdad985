"""The streams and subjects that the worker and the caller of JetStream share."""

from __future__ import annotations

COMMANDS = "COMMANDS"
COMMAND_SUBJECT = "commands"
RESULTS = "RESULTS"
RESULT_SUBJECT = "results"
MAX_UNACKNOWLEDGED = 4_000
