from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from distributor.dispatch import audit
from distributor.dispatch.audit import Audit
from distributor.errors import Unavailable
from distributor.model.repair import Repair, RepairKind
from distributor.observability.metrics import Metrics
from tests.support.own_logs import own_logs
from tests.support.serving_agent import background
from tests.support.waiting import until

DEADLINE, READY = RepairKind.ASSIGNED_WITHOUT_DEADLINE, RepairKind.QUEUED_NOT_READY


class MemoryAuditor:
    """The Auditor port."""

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
    auditor = MemoryAuditor(repairs[:3], [], [*repairs[3:], Repair(READY, "d")])
    with own_logs() as logs:
        counts = await Audit(auditor, metrics).run_once()
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
    auditor = MemoryAuditor([Repair(READY, "d")])
    auditor.refuse = True
    assert await Audit(auditor, Metrics()).run_once() is None


async def test_it_sweeps_at_once_and_then_unless_another_has_and_goes_on_after_a_failure() -> None:
    auditor = MemoryAuditor()
    auditor.away = True
    with own_logs() as logs:
        async with background(Audit(auditor, Metrics(), cleanup_interval=0.004).run()):
            await until(lambda: bool(logs))
            auditor.away = False
            await until(lambda: len(auditor.rests) >= 2)
    assert [line["event"] for line in logs] == ["cannot audit", "can audit again"]
    assert auditor.rests[-1] == 4


@pytest.mark.parametrize("fault", ["away", "refuse"])
async def test_what_failed_or_was_refused_is_tried_again_long_before_the_interval_has_passed(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(audit, "LOOK_SECONDS", 0.001)
    auditor = MemoryAuditor()
    setattr(auditor, fault, True)
    async with background(Audit(auditor, Metrics(), cleanup_interval=3_600.0).run()):
        await until(lambda: auditor.looks >= 2)
        setattr(auditor, fault, False)
        await until(lambda: auditor.sweeps == 1)
        looks = auditor.looks
        await asyncio.sleep(0.02)
    assert (auditor.looks, auditor.sweeps) == (looks, 1), "the next is due in an hour"


async def test_servers_that_start_together_sweep_once() -> None:
    auditor = MemoryAuditor()
    async with background(Audit(auditor, Metrics()).run()):
        await until(lambda: bool(auditor.rests))
    assert auditor.rests == [60_000]
