"""What the kit does with the process of an agent."""

from __future__ import annotations

import signal
from typing import Protocol


class AgentProcess(Protocol):
    """An agent that the kit starts and ends."""

    def start(self) -> None:
        """Start the agent, again after it has ended."""

    def remove_journal(self) -> None:
        """Remove its journal, while it does not run."""

    async def kill(self) -> None:
        """End it at once, and wait for that."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""

    async def ended(self) -> int:
        """The exit code, once it has ended; negative for a signal."""
        ...

    @property
    def last_line(self) -> str:
        """The last line that it printed, empty if there is none."""
        ...
