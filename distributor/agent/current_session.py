"""The link between running commands and the session that is open now, if any."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from distributor.agent.loop_mailbox import LoopMailbox
from distributor.agent.output_exchange import DEFAULT_OUTPUT_LIMIT
from distributor.agent.session_state import SessionState
from distributor.agent.vitals import Vitals
from distributor.v1 import agent_gateway_pb2 as gateway


class CurrentSession:
    """Connects commands, which outlive streams, to the current stream.

    Lives as long as the agent, on the connection's loop; `output_limit` and `output_written()` are thread-safe. The
    stream's writer waits for `wakeup`.
    """

    def __init__(self) -> None:
        self._home: LoopMailbox | None = None
        self._home_thread = 0
        self._written: set[str] = set()
        """Commands with new output not yet reported to the connection. Adding and discarding are atomic."""
        self.wakeup = asyncio.Event()
        self._state: SessionState | None = None
        self._output_limit = DEFAULT_OUTPUT_LIMIT
        self._max_result_bytes = DEFAULT_OUTPUT_LIMIT
        self._answered_at = 0.0
        self.on_output: Callable[[str], None] = _not_journalled
        """Called on the connection's loop with the id of a command that has new output."""
        self.vitals: Callable[[], Awaitable[Vitals]] = _without_work
        """Measures the vitals for a heartbeat, in at most a fraction of a second."""

    @property
    def state(self) -> SessionState | None:
        """The session of the open stream, or None while disconnected."""
        return self._state

    @property
    def output_limit(self) -> int:
        """Limit of unacknowledged output per command in bytes, as last set by the server."""
        state = self._state
        if state:
            self._output_limit = state.output_limit
        return self._output_limit

    @property
    def max_result_bytes(self) -> int:
        """Limit of a result in bytes of JSON, as last set by the server."""
        if self._state:
            self._max_result_bytes = self._state.max_result_bytes
        return self._max_result_bytes

    @property
    def answered_at(self) -> float:
        """When the latest heartbeat that a server has answered was sent; 0 if none was."""
        if self._state:
            self._answered_at = max(self._answered_at, self._state.answered_at)
        return self._answered_at

    def open(self) -> None:
        """Begin to serve on the running loop."""
        self._home = LoopMailbox(asyncio.get_running_loop())
        self._home_thread = threading.get_ident()

    @property
    def home(self) -> LoopMailbox:
        """Makes calls on the connection's loop. Raises RuntimeError before `open`."""
        if self._home is None:
            raise RuntimeError("the agent is not serving")
        return self._home

    def attach(self, state: SessionState) -> None:
        """Set the session of a new stream."""
        self._state = state
        self.wakeup.clear()

    def detach(self) -> None:
        """Note that the stream ended. Commands continue; the record keeps their results."""
        _ = self.output_limit, self.max_result_bytes, self.answered_at
        self._state = None

    def output_written(self, command_id: str) -> None:
        """Report that the command has output to send. Thread-safe."""
        if self._home is None or threading.get_ident() == self._home_thread:
            self._report_output(command_id)
        elif command_id not in self._written:
            self._written.add(command_id)
            self._home.post(partial(self._report_output, command_id))

    def _report_output(self, command_id: str) -> None:
        self._written.discard(command_id)
        self.on_output(command_id)
        if self._state:
            self._state.output_written(command_id)
            self.wakeup.set()

    def request_certificate(self, request_pem: bytes) -> bool:
        """Ask for a new certificate; return False without a session."""
        if self._state is None:
            return False
        self._state.request_certificate(request_pem)
        self.wakeup.set()
        return True

    def room_changed(self, now: float) -> None:
        """Report that a handler that did not stop in time has ended."""
        if self._state:
            self._state.room_changed(now)
            self.wakeup.set()

    def extended(self, command_id: str) -> None:
        """Report that the command's time limit was extended."""
        if self._state:
            self._state.extended(command_id)
            self.wakeup.set()

    def could_not_stop(self, command_id: str, survivors: Sequence[gateway.SurvivingProcess]) -> None:
        """Report that a cancelled command did not stop."""
        if self._state:
            self._state.could_not_stop(command_id, survivors)
            self.wakeup.set()

    def finished(self, command_id: str, now: float) -> None:
        """Report that the command has a result to send."""
        if self._state:
            self._state.finished(command_id, now)
            self.wakeup.set()


async def _without_work() -> Vitals:
    return Vitals(load=host_load())


def host_load() -> float:
    """The one-minute load average of the host; 0 if the system does not know it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def _not_journalled(command_id: str) -> None:
    """Without a journal, output is kept in memory only."""
