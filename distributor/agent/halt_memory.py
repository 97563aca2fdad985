"""What the agent remembers of an emergency stop, across streams and, with a journal, across restarts. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from distributor.v1 import agent_gateway_pb2 as gateway


class RememberedHalt(NamedTuple):
    """The latest halt."""

    stop_id: str
    reason: str

    @property
    def message(self) -> str:
        """How the agent describes it."""
        return f"halted by emergency stop {self.stop_id}" + (f": {self.reason}" if self.reason else "")


class HaltMemory:
    """The halt in force, and what could not be ended under it. Not thread-safe."""

    def __init__(self) -> None:
        self.current: RememberedHalt | None = None
        self.survivors: dict[str, Sequence[gateway.SurvivingProcess]] = {}
        """By command, what did not end, also of commands that have failed because of that."""
        self.on_change: Callable[[], None] = _ignore
        """Called when the journal has to note a change."""
        self._noted: RememberedHalt | None = None
        self._writing: RememberedHalt | None = None

    @property
    def unwritten(self) -> bool:
        """Whether the journal lacks the latest change, and no commit under way has it."""
        return self.current != self._writing

    @property
    def written(self) -> bool:
        """Whether the journal has the latest change."""
        return self.current == self._noted

    def restore(self, halt: RememberedHalt | None) -> None:
        """Take over what the journal has."""
        self.current = self._noted = self._writing = halt

    def halt(self, stop_id: str, reason: str) -> None:
        """Remember a halt."""
        self._change(RememberedHalt(stop_id, reason))

    def resume(self) -> None:
        """Forget the halt."""
        self.survivors.clear()
        self._change(None)

    def take(self) -> RememberedHalt | None:
        """Take the present state, to write it."""
        self._writing = self.current
        return self._writing

    def succeeded(self) -> None:
        """The state taken last was written."""
        self._noted = self._writing

    def failed(self) -> None:
        """The state taken last was not written."""
        self._writing = self._noted

    def _change(self, halt: RememberedHalt | None) -> None:
        if halt != self.current:
            self.current = halt
            self.on_change()


def _ignore() -> None:
    """Do nothing: without a journal, nothing notes changes."""
