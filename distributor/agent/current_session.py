"""The session that is open now, if any: what running commands see of the connection."""

from __future__ import annotations

import asyncio

from distributor.agent.session_state import DEFAULT_OUTPUT_LIMIT, SessionState


class CurrentSession:
    """Joins commands, which outlive connections, to the connection of the moment.

    Lives as long as the agent. The writer of the stream waits for `bell`.
    """

    def __init__(self) -> None:
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
        if self._state:
            self._output_limit = self._state.output_limit
        return self._output_limit

    @property
    def max_result_bytes(self) -> int:
        """Bytes a result may have as JSON, as the server said last."""
        if self._state:
            self._max_result_bytes = self._state.max_result_bytes
        return self._max_result_bytes

    def attach(self, state: SessionState) -> None:
        """A stream begins."""
        self._state = state
        self.bell.clear()

    def detach(self) -> None:
        """The stream ended. Commands go on; what they do is kept in the record."""
        _ = self.output_limit, self.max_result_bytes
        self._state = None

    def output_written(self, command_id: str) -> None:
        """The command has output to send."""
        if self._state:
            self._state.output_written(command_id)
            self.bell.set()

    def finished(self, command_id: str, now: float) -> None:
        """The command has a result to send."""
        if self._state:
            self._state.finished(command_id, now)
            self.bell.set()
