"""Limits of the protocol, enforced by both ends of a connection."""

from __future__ import annotations

from typing import Final

MAX_BATCH_COMMANDS: Final = 1_000
"""Maximum number of commands in a QueueCommands call."""
MAX_WATCHED: Final = 1_000
"""Maximum number of commands or agents in a WatchCommands call."""
MAX_PAGE: Final = 1_000
"""Maximum number of commands or agents in a page of a list."""
MAX_HELD: Final = 1_000
"""Maximum number of commands an agent holds, running or unacknowledged, and that a Hello lists."""
MAX_OUTPUT_CHUNK_BYTES: Final = 65_536
"""Maximum size of an output chunk from an agent, in bytes."""
MAX_OUTPUT_OFFSET: Final = 2**53
"""Maximum offset in a command's output, in bytes: the largest that the store represents exactly."""
MAX_SURVIVORS: Final = 20
"""Surviving processes that a message names of one command."""
