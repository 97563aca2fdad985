from __future__ import annotations

from distributor.dispatch.agent_registry import AgentRegistry, CloseReason
from distributor.dispatch.liveness import Liveness
from distributor.observability.metrics import Metrics
from tests.support.memory_stores import MemoryAgent


def test_it_ends_the_streams_that_are_silent_for_too_long() -> None:
    registry = AgentRegistry(Metrics())
    silent, alive = MemoryAgent("silent"), MemoryAgent("alive")
    registry.add(silent)
    registry.add(alive)
    alive.session.note_message(1_000.0)
    liveness = Liveness(registry, offline_after=30.0)
    assert liveness.run_once(30_000.0) == 0
    assert liveness.run_once(30_000.1) == 1
    assert (silent.farewells, alive.farewells) == ([CloseReason.SILENT], [])


def test_after_a_pause_of_the_process_what_lies_unread_is_read_first() -> None:
    registry, heard, silent = AgentRegistry(Metrics()), MemoryAgent("heard"), MemoryAgent("silent")
    registry.add(heard)
    registry.add(silent)
    liveness = Liveness(registry, offline_after=30.0)
    assert liveness.run_once(1_000.0) == 0
    # The process was stopped for a minute; the next check came before the readers.
    assert liveness.run_once(61_000.0) == 0
    heard.session.note_message(61_010.0)
    assert [liveness.run_once(now) for now in (62_000.0, 63_000.0)] == [0, 1]
    assert (heard.farewells, silent.farewells) == ([], [CloseReason.SILENT])
