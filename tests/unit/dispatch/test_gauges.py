from __future__ import annotations

from distributor.dispatch.gauges import Gauges
from distributor.errors import Unavailable
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import QueueDepth
from distributor.observability.metrics import Metrics
from tests.support.memory_reader import MemoryReader


class DepthReader(MemoryReader):
    """Has an answer for what gauges ask."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.refuses_changes = False

    async def depth(self) -> QueueDepth:
        if self.away:
            raise Unavailable("Valkey is away: no connection")
        counts = dict.fromkeys(CommandStatus, 0) | {CommandStatus.QUEUED: 3, CommandStatus.FAILED: 2}
        return QueueDepth(counts, 1_500)

    async def check_writable(self) -> None:
        if self.refuses_changes:
            raise Unavailable("Valkey cannot serve now: MISCONF")


def seen(gauges: Gauges) -> tuple[str | None, bool]:
    """The fault, and whether it was said that it changed."""
    return gauges.fault, gauges.changed.is_set()


async def test_it_shows_what_it_sampled_and_says_when_the_store_comes_and_goes() -> None:
    reader = DepthReader()
    metrics = Metrics()
    gauges = Gauges(reader, reader.check_writable, metrics)
    assert gauges.fault == "not asked yet"

    await gauges.run_once()
    assert seen(gauges) == (None, True)
    value = metrics.registry.get_sample_value
    assert value("distributor_queue_depth") == 3
    assert value("distributor_queue_oldest_age_seconds") == 1.5
    assert value("distributor_commands", {"status": "failed"}) == 2

    gauges.changed.clear()
    await gauges.run_once()
    assert not gauges.changed.is_set()

    reader.away = True
    for _ in range(2):
        await gauges.run_once()
    assert seen(gauges) == ("Valkey is away: no connection", True)
    gauges.changed.clear()
    await gauges.run_once()
    assert not gauges.changed.is_set()


async def test_a_store_that_can_be_read_but_takes_no_changes_is_at_fault() -> None:
    reader = DepthReader()
    metrics = Metrics()
    gauges = Gauges(reader, reader.check_writable, metrics)
    reader.refuses_changes = True
    await gauges.run_once()
    assert gauges.fault == "Valkey cannot serve now: MISCONF"
    assert metrics.registry.get_sample_value("distributor_queue_depth") == 3
    reader.refuses_changes = False
    await gauges.run_once()
    assert seen(gauges) == (None, True)
