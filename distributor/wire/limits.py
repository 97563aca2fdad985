"""Limits of the protocol that both ends of a connection keep."""

from __future__ import annotations

from typing import Final

MAX_BATCH_COMMANDS: Final = 1_000
"""Commands in one QueueCommands call."""
MAX_WATCHED: Final = 1_000
"""Commands or agents in one WatchCommands call."""
MAX_PAGE: Final = 1_000
"""Commands or agents in one page of a list."""
MAX_HELD: Final = 1_000
"""Commands that one agent holds at once, running or unacknowledged: as many as a Hello may list."""
MAX_OUTPUT_CHUNK_BYTES: Final = 65_536
"""Bytes of output in one piece from an agent."""
