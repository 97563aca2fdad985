"""Acts on deadlines: queue TTLs, missing acknowledgements, time limits, delayed retries."""

from __future__ import annotations

import random

from distributor.dispatch.deadline_alarm import DeadlineAlarm
from distributor.dispatch.ports import CommandStore
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import DistributorError
from distributor.model.lifecycle import CommandStatus
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage

logger = get_logger()

MAX_WAIT_SECONDS = 1.0
"""Longest wait: a deadline that is set meanwhile, without an alarm, is acted on at most this late."""
MIN_WAIT_SECONDS = 0.02


class Deadlines:
    """One loop per replica; whichever acts first on a deadline, it is acted on once.

    A replica that sets a deadline nearer than the longest wait sets its own alarm. The others need none.
    """

    def __init__(
        self,
        store: CommandStore,
        wakeups: Wakeups,
        retry_policy: RetryPolicy,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
        alarm: DeadlineAlarm | None = None,
    ) -> None:
        self._alarm = alarm or DeadlineAlarm()
        self._max_wait_seconds = max_wait_seconds
        self._store = store
        self._wakeups = wakeups
        self._retry_policy = retry_policy
        self._random = random.Random()
        self._outage = Outage("look at deadlines")

    async def run(self) -> None:
        """Act on deadlines until cancelled."""
        while True:
            try:
                wait = await self.run_once()
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
                wait = self._max_wait_seconds
            await self._alarm.wait(wait)

    async def run_once(self) -> float:
        """Act on passed deadlines; return the seconds until the next check."""
        policy = self._retry_policy
        delays = [policy.delay_ms(attempt, self._random.random()) for attempt in range(1, policy.attempts + 1)]
        next_ms, done = await self._store.due(delays)
        for command in done:
            if command.status is CommandStatus.QUEUED:
                self._wakeups.wake(command.agent_id, control=True)
            elif command.status.terminal:
                logger.debug(
                    "a deadline ended a command",
                    command_id=command.command_id,
                    agent_id=command.agent_id,
                    status=command.status.value,
                )
        if next_ms is None:
            return self._max_wait_seconds
        if next_ms == 0 and done:
            # More have passed than one call acts on.
            return 0.0
        return min(max(next_ms / 1000, MIN_WAIT_SECONDS), self._max_wait_seconds)
