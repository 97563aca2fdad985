"""Our agents count slots. No rule asks it of other agents, so that it is no scenario of the kit."""

from __future__ import annotations

from distributor.conformance.scenario import scenario
from distributor.conformance.trial import Trial
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.conformance import JOURNAL, PYTHON_AGENT, scores, shortcomings


@scenario("Heartbeats and credit")
async def heavy_command_counts_its_slots(trial: Trial) -> None:
    """A command of two slots counts as two, and one of all slots is refused beside it."""
    session = await trial.session(heartbeat_interval=0.2)
    capacity = session.hello.capacity
    heavy, too_much = trial.sleepers(2)
    heavy.command.slots, too_much.command.slots = 2, capacity
    await trial.give(heavy)
    await trial.started(heavy)
    await trial.heartbeat(lambda beat: (beat.running, beat.credit) == (2, capacity - 2), "running 2")
    await trial.give(too_much)
    trial.require((await trial.refused(too_much)).code == gateway.REFUSAL_CODE_BUSY)
    await trial.cancel(heavy)
    await trial.result(heavy)
    await trial.heartbeat(lambda beat: (beat.running, beat.credit) == (0, capacity), "running 0")


async def test_the_agent_in_python() -> None:
    assert not shortcomings(await scores([heavy_command_counts_its_slots], *PYTHON_AGENT, JOURNAL))


async def test_the_agent_in_node(node_agent: tuple[str, ...]) -> None:
    assert not shortcomings(await scores([heavy_command_counts_its_slots], *node_agent))
