"""What this agent received, started, finished and saw acknowledged.

The record lives in memory: it carries commands over reconnects and server restarts, and ends with the process. A
durable journal takes this module's place behind the same four steps (`start`, `finish`, `acknowledge`, `forget`);
nothing else in the package remembers command ids.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from distributor.agent.output_window import OutputWindow
from distributor.v1 import agent_gateway_pb2 as gateway

REMEMBERED: Final = 10_000
"""Ids of ended commands kept to refuse duplicates; the oldest go first."""


@dataclass(slots=True)
class RecordedCommand:
    """A command between its start and the acknowledgement of its result."""

    command_id: str
    lease_id: str
    window: OutputWindow = field(default_factory=OutputWindow)
    result: gateway.Result | None = None
    disowned: bool = False
    """The server says that it is no longer ours: stop it, and say nothing more of it."""

    @property
    def running(self) -> bool:
        """Whether its handler has not ended."""
        return self.result is None


class CommandRecord:
    """The commands of one agent process. Not safe to share between threads."""

    def __init__(self) -> None:
        self._held: dict[str, RecordedCommand] = {}
        self._ended: OrderedDict[str, bool] = OrderedDict()
        self._unacknowledged = 0

    @property
    def running(self) -> int:
        """How many handlers have not ended."""
        return len(self._held) - self._unacknowledged

    @property
    def unacknowledged(self) -> int:
        """How many results wait for their acknowledgement."""
        return self._unacknowledged

    @property
    def held(self) -> list[RecordedCommand]:
        """Everything running or unacknowledged, oldest first."""
        return list(self._held.values())

    @property
    def empty(self) -> bool:
        """Whether nothing runs and every result is acknowledged."""
        return not self._held

    def get(self, command_id: str) -> RecordedCommand | None:
        """The command if it is running or its result unacknowledged."""
        return self._held.get(command_id)

    def was_started(self, command_id: str) -> bool:
        """Whether starting `command_id` would start it twice.

        A command may be started again only after the server stored a result of ours that called itself transient.
        """
        return command_id in self._held or not self._ended.get(command_id, True)

    def start(self, command_id: str, lease_id: str) -> RecordedCommand:
        """Note that the handler is about to be called."""
        self._ended.pop(command_id, None)
        held = self._held[command_id] = RecordedCommand(command_id, lease_id)
        return held

    def finish(self, result: gateway.Result) -> None:
        """Note how a running command ended; a disowned one is forgotten."""
        held = self._held[result.command_id]
        held.result = result
        self._unacknowledged += 1
        if held.disowned:
            self.forget(held.command_id)

    def acknowledge(self, command_id: str, stored: bool) -> None:
        """Note that the server has the result, or never will. Ids without a result are ignored."""
        held = self._held.get(command_id)
        if held and held.result:
            self._end(held, may_run_again=stored and held.result.transient)

    def forget(self, command_id: str) -> None:
        """Drop a result that nobody wants. Ids without a result are ignored."""
        self.acknowledge(command_id, stored=False)

    def _end(self, held: RecordedCommand, may_run_again: bool) -> None:
        del self._held[held.command_id]
        self._unacknowledged -= 1
        self._ended[held.command_id] = may_run_again
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
