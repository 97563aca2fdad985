"""The heartbeats of one stream: when they were sent and answered, and how fresh that makes the commands that follow.

Does no I/O. Times are seconds of a monotonic clock that also counts while the host sleeps: the freshness rule depends
on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from distributor.agent.vitals import Silence, Vitals
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.limits import MAX_HELD

SILENT_INTERVALS: Final = 3
MAX_PROBLEMS: Final = 8
"""Problems in one heartbeat, set by the protocol."""
DEFAULT_HEARTBEAT_INTERVAL: Final = 10.0


class Heartbeats:
    """Counts the heartbeats of one stream. The Hello is number 0, which the Welcome answers."""

    def __init__(self) -> None:
        self.interval = DEFAULT_HEARTBEAT_INTERVAL
        """Seconds between heartbeats."""
        self.start_within = 0.0
        """Seconds after an answered heartbeat was sent during which commands that follow its answer may start."""
        self.confirmed = False
        """Whether the server has answered a heartbeat."""
        self.answered_at = 0.0
        """When the latest answered heartbeat, or Hello, was sent; 0 if the server has answered none."""
        self.latest_answered = 0
        """Number of the latest heartbeat that was answered."""
        self._hello_at = 0.0
        self._heard_at = 0.0
        self._sequence = 0
        self._sent_at: dict[int, float] = {}
        self._vitals = Vitals()

    @property
    def latest(self) -> int:
        """Number of the latest heartbeat."""
        return self._sequence

    def hello_sent(self, now: float) -> None:
        """Note that the Hello is sent."""
        self._hello_at = self._heard_at = self._sent_at[0] = now

    def welcomed(self, now: float) -> None:
        """Note the Welcome."""
        self._heard_at = now
        self.answered_at = self._hello_at

    def next(self, now: float, replaces: bool) -> gateway.Heartbeat:
        """The next heartbeat; `replaces` gives it the number of the one before, which was not sent."""
        if not replaces:
            self._sequence += 1
        oldest = now - self.start_within
        self._sent_at = {sequence: sent for sequence, sent in self._sent_at.items() if sent > oldest}
        self._sent_at[self._sequence] = now
        return gateway.Heartbeat(sequence=self._sequence)

    def add_vitals(self, beat: gateway.Heartbeat, vitals: Vitals | None) -> None:
        """Add the vitals: without `vitals` the latest again, but for the silences, which are no longer true."""
        silences: Sequence[Silence] = ()
        if vitals:
            silences, self._vitals = vitals.silences, vitals
        beat.load = self._vitals.load
        beat.handler_lag.FromNanoseconds(int(self._vitals.handler_lag * 1e9))
        for silence in silences[:MAX_HELD]:
            beat.progress.add(command_id=silence.command_id).silence.FromNanoseconds(int(silence.seconds * 1e9))
        for problem in self._vitals.problems[: MAX_PROBLEMS - len(beat.problems)]:
            beat.problems.add(code=problem.code, message=problem.message)

    def answered(self, sequence: int, now: float) -> None:
        """Note the answer to heartbeat `sequence`."""
        self._heard_at = now
        self.confirmed = True
        self.latest_answered = max(self.latest_answered, min(sequence, self._sequence))
        self.answered_at = max(self.answered_at, self._sent_at.get(sequence, 0.0))

    def fresh_until(self, after_heartbeat: int) -> float:
        """Until when a command may start that followed the answer to this heartbeat; 0 if it is stale already."""
        sent_at = self._sent_at.get(after_heartbeat)
        return 0.0 if sent_at is None else sent_at + self.start_within

    def silent(self, now: float) -> bool:
        """Whether the server has not answered for three intervals."""
        return now - self._heard_at >= SILENT_INTERVALS * self.interval
