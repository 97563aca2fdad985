from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from distributor.dispatch import index_check
from distributor.dispatch.index_check import IndexCheck
from distributor.errors import Unavailable
from distributor.model.repair import Repair, RepairKind
from distributor.observability.metrics import Metrics
from tests.support.own_logs import own_logs
from tests.support.serving_agent import background
from tests.support.waiting import until

DEADLINE, READY = RepairKind.ASSIGNED_WITHOUT_DEADLINE, RepairKind.QUEUED_NOT_READY


class MemoryIndexChecker:
    """The IndexChecker port."""

    def __init__(self, *steps: Sequence[Repair]) -> None:
        self.steps = steps
        self.rests: list[int] = []
        self.looks = self.sweeps = 0
        self.refuse = False
        self.away = False

    async def take_turn(self, rest_ms: int) -> bool:
        self.looks += 1
        if self.away:
            raise Unavailable("Valkey is away")
        self.rests.append(rest_ms)
        return not self.refuse

    async def sweep(self) -> AsyncIterator[Sequence[Repair]]:
        self.sweeps += 1
        for step in self.steps:
            yield step


def counted(metrics: Metrics, kind: RepairKind) -> float | None:
    return metrics.registry.get_sample_value("distributor_store_repairs_total", {"kind": kind.value})


async def test_repairs_are_counted_and_logged_by_kind_with_examples() -> None:
    metrics = Metrics()
    repairs = [Repair(DEADLINE, f"c{number}") for number in range(7)]
    checker = MemoryIndexChecker(repairs[:3], [], [*repairs[3:], Repair(READY, "d")])
    with own_logs() as logs:
        counts = await IndexCheck(checker, metrics).run_once()
    assert counts == {DEADLINE: 7, READY: 1}
    assert (counted(metrics, DEADLINE), counted(metrics, READY)) == (7, 1)
    assert [(line["kind"], line["repairs"], line["examples"]) for line in logs] == [
        ("assigned_without_deadline", 7, ["c0", "c1", "c2", "c3", "c4"]),
        ("queued_not_ready", 1, ["d"]),
    ]


async def test_every_kind_is_zero_from_the_start() -> None:
    metrics = Metrics()
    assert [counted(metrics, kind) for kind in RepairKind] == [0] * len(RepairKind)


async def test_nothing_is_done_out_of_turn() -> None:
    checker = MemoryIndexChecker([Repair(READY, "d")])
    checker.refuse = True
    assert await IndexCheck(checker, Metrics()).run_once() is None


async def test_it_sweeps_at_once_and_then_unless_another_has_and_goes_on_after_a_failure() -> None:
    checker = MemoryIndexChecker()
    checker.away = True
    with own_logs() as logs:
        async with background(IndexCheck(checker, Metrics(), cleanup_interval=0.004).run()):
            await until(lambda: bool(logs))
            checker.away = False
            await until(lambda: len(checker.rests) >= 2)
    assert [line["event"] for line in logs] == ["cannot check the indexes", "can check the indexes again"]
    assert checker.rests[-1] == 4


@pytest.mark.parametrize("fault", ["away", "refuse"])
async def test_what_failed_or_was_refused_is_tried_again_long_before_the_interval_has_passed(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(index_check, "LOOK_SECONDS", 0.001)
    checker = MemoryIndexChecker()
    setattr(checker, fault, True)
    async with background(IndexCheck(checker, Metrics(), cleanup_interval=3_600.0).run()):
        await until(lambda: checker.looks >= 2)
        setattr(checker, fault, False)
        await until(lambda: checker.sweeps == 1)
        looks = checker.looks
        await asyncio.sleep(0.02)
    assert (checker.looks, checker.sweeps) == (looks, 1), "the next is due in an hour"


async def test_servers_that_start_together_sweep_once() -> None:
    checker = MemoryIndexChecker()
    async with background(IndexCheck(checker, Metrics()).run()):
        await until(lambda: bool(checker.rests))
    assert checker.rests == [60_000]
