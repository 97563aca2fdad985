"""The output of one attempt as its server receives it: without gaps, and within the window."""

from __future__ import annotations

from distributor.model.protocol_violation import ProtocolViolation


class OutputFlow:
    """How much output of an attempt was received and acknowledged, in bytes from its start. One session's view.

    An agent sends output in order, and resends what it may have lost. It has seen no acknowledgement that is not
    counted here, so an agent that respects the window never exceeds it here.
    """

    __slots__ = ("_latest_start", "acknowledged", "received")

    def __init__(self, stored: int = 0, produced: int = 0) -> None:
        """Continue an attempt of which `stored` bytes are stored and, by the agent's account, `produced` exist.

        The agent has discarded what was acknowledged, which the store may have lost or dropped: the first output may
        start anywhere up to `produced`.
        """
        self.received = self.acknowledged = stored
        self._latest_start = max(stored, produced)

    @property
    def end(self) -> int:
        """Where the output ends: by what arrived or, before the first piece, by the agent's account if that is more."""
        return self._latest_start

    def receive(self, offset: int, size: int, window: int) -> None:
        """Count a piece of output. Raises ProtocolViolation for a gap, or more than `window` unacknowledged bytes."""
        if offset > self._latest_start:
            raise ProtocolViolation(
                "output.offset",
                f"output.offset must be at most {self._latest_start:,}, the end of the output so far, not {offset:,}",
            )
        if offset > self.received:
            self.acknowledged = offset
        received = max(self.received, offset + size)
        if received - self.acknowledged > window:
            raise ProtocolViolation(
                "output",
                f"output must have at most {window:,} unacknowledged bytes of a command, "
                f"not {received - self.acknowledged:,}",
            )
        self.received = self._latest_start = received

    def acknowledge(self, offset: int) -> None:
        """The agent may discard everything before `offset`. Acknowledgements never go back."""
        self.acknowledged = max(self.acknowledged, min(offset, self.received))
