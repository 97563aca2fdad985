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
