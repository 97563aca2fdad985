"""What has ended is started again, but not where that does not help."""

from __future__ import annotations

import pytest

from distributor.errors import ConfigurationError, Unavailable
from distributor.processes.supervisor import RestartBudget, Supervisor
from tests.support.own_logs import own_logs


class Ended:
    """A process that ends as soon as it is started."""

    def __init__(self, cannot_start: Exception | None = None) -> None:
        self.restarts = 0
        self._cannot_start = cannot_start

    async def ended(self) -> int:
        return 3

    async def restart(self) -> None:
        if self._cannot_start is not None:
            raise self._cannot_start
        self.restarts += 1


def supervisor(process: Ended) -> Supervisor:
    return Supervisor("the press", process, reason="PRESS_FAILED", hint="look into it")


async def test_it_is_started_again_and_that_is_told() -> None:
    process = Ended()
    with own_logs() as logs:
        await supervisor(process).run_once()
    assert process.restarts == 1
    assert [(line["event"], line["log_level"], line.get("exit_code")) for line in logs] == [
        ("the press ended, restarting it", "error", 3),
        ("the press is running again", "info", None),
    ]


async def test_one_that_keeps_ending_is_given_up() -> None:
    process = Ended()
    with pytest.raises(Unavailable) as given_up:
        await supervisor(process).run()
    assert process.restarts == 3
    assert given_up.value.reason == "PRESS_FAILED"
    assert given_up.value.message == "the press ended again (exit code 3) after 3 restarts within 60 s; look into it"


async def test_what_keeps_it_from_starting_is_raised() -> None:
    with pytest.raises(ConfigurationError, match="no such press"):
        await supervisor(Ended(ConfigurationError("no such press"))).run()


def test_only_so_often_within_a_time() -> None:
    budget = RestartBudget(max_restarts=2, within_seconds=10.0)
    assert [budget.spend(now) for now in (100.0, 101.0, 102.0, 109.9)] == [True, True, False, False]


def test_what_is_long_past_does_not_count() -> None:
    budget = RestartBudget(max_restarts=2, within_seconds=10.0)
    assert [budget.spend(now) for now in (100.0, 101.0, 110.0, 110.9, 111.0)] == [True, True, True, False, True]


def test_three_within_a_minute_unless_told_otherwise() -> None:
    assert (RestartBudget().max_restarts, RestartBudget().within_seconds) == (3, 60.0)
