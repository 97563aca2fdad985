"""The session that is open now, if any: what running commands see of the connection."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from distributor.agent.session_state import DEFAULT_OUTPUT_LIMIT, SessionState


class CurrentSession:
    """Joins commands, which outlive connections, to the connection of the moment.

    Lives as long as the agent, on the connection's loop; `output_limit` and `output_written()` are for any thread. The
    writer of the stream waits for `bell`.
    """

    def __init__(self) -> None:
        self._home: asyncio.AbstractEventLoop | None = None
        self._home_thread = 0
        self._written: set[str] = set()
        """Commands whose new output the connection has not been told of yet. Adding and discarding are atomic."""
        self.bell = asyncio.Event()
        self._state: SessionState | None = None
        self._output_limit = DEFAULT_OUTPUT_LIMIT
        self._max_result_bytes = DEFAULT_OUTPUT_LIMIT

    @property
    def state(self) -> SessionState | None:
        """The session of the open stream, or None while disconnected."""
        return self._state

    @property
    def output_limit(self) -> int:
        """Bytes of output a command may have unacknowledged, as the server said last."""
        state = self._state
        if state:
            self._output_limit = state.output_limit
        return self._output_limit

    @property
    def max_result_bytes(self) -> int:
        """Bytes a result may have as JSON, as the server said last."""
        if self._state:
            self._max_result_bytes = self._state.max_result_bytes
        return self._max_result_bytes

    def open(self) -> None:
        """The agent begins to serve, on the running loop."""
        self._home = asyncio.get_running_loop()
        self._home_thread = threading.get_ident()

    def attach(self, state: SessionState) -> None:
        """A stream begins."""
        self._state = state
        self.bell.clear()

    def detach(self) -> None:
        """The stream ended. Commands go on; what they do is kept in the record."""
        _ = self.output_limit, self.max_result_bytes
        self._state = None

    def output_written(self, command_id: str) -> None:
        """The command has output to send. For any thread."""
        if self._home is None or threading.get_ident() == self._home_thread:
            self._tell_of_output(command_id)
        elif command_id not in self._written:
            self._written.add(command_id)
            # The agent may have left without waiting for this handler.
            with suppress(RuntimeError):
                self._home.call_soon_threadsafe(self._tell_of_output, command_id)

    def _tell_of_output(self, command_id: str) -> None:
        self._written.discard(command_id)
        if self._state:
            self._state.output_written(command_id)
            self.bell.set()

    def room_changed(self, now: float) -> None:
        """A handler that would not stop has ended."""
        if self._state:
            self._state.room_changed(now)
            self.bell.set()

    def finished(self, command_id: str, now: float) -> None:
        """The command has a result to send."""
        if self._state:
            self._state.finished(command_id, now)
            self.bell.set()
