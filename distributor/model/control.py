"""Control commands must reach an agent even if it is busy.

They have their own queue, are sent in addition to the agent's credit, and use none of its capacity.
"""

from __future__ import annotations

from typing import Final

STOP: Final = "STOP"
PING: Final = "PING"

CONTROL_TYPES: Final = frozenset({PING, STOP})

INSTANCE_TYPES: Final = frozenset({STOP})
"""Types meant for the agent instance attached when they were queued, never for a later one."""

CONTROL_ROOM: Final = 4
"""How many control commands an agent may have at once, in addition to its credit."""
