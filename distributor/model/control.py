"""Control commands: work that must reach an agent however busy it is.

They wait in a queue of their own, are given out beside the agent's credit, and take up none of its capacity.
"""

from __future__ import annotations

from typing import Final

STOP: Final = "STOP"
PING: Final = "PING"

CONTROL_TYPES: Final = frozenset({PING, STOP})

INSTANCE_TYPES: Final = frozenset({STOP})
"""Types meant for the agent instance that was attached when they were queued, and for no later one."""

CONTROL_ROOM: Final = 4
"""How many control commands an agent may be given at once, beside its credit."""
