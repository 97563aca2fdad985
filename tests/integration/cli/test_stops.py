"""`distributor stop`, `resume` and `stops` as a shell runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.launched_sender import ROOT, Finished, run_sender
from tests.support.running_server import RunningServer, running_server
from tests.support.serving_agent import background
from tests.support.wire_agent import WireAgent

LAUNCHER = ROOT / "cmd" / "distributor_server.py"


@pytest.fixture
async def stoppable(valkey_url: str) -> AsyncIterator[RunningServer]:
    async with running_server(valkey_url) as server:
        yield server


async def run(server: RunningServer, *arguments: str) -> Finished:
    return await run_sender(server.address, *arguments, launcher=LAUNCHER)


async def confirm(agent: WireAgent) -> None:
    """Say that nothing runs."""
    (halt,) = await agent.until(lambda: agent.halts)
    await agent.send(halted=pb.Halted(stop_id=halt.stop_id))


async def test_it_succeeds_once_every_agent_has_confirmed(stoppable: RunningServer) -> None:
    async with stoppable.agent(halts=pb.HaltMemory()) as agent, background(confirm(agent)):
        stopped = await run(stoppable, "stop", "--on", "agent*", "--reason", "leak", "--timeout", "30", "-o", "json")
    assert (stopped.code, stopped.stderr) == (0, "")
    assert [(one["agentId"], one["status"]) for one in stopped.document["agents"]] == [("agent123", "confirmed")]
    stop_id = stopped.document["stop"]["stopId"]
    listed = await run(stoppable, "stops")
    assert stop_id.encode() in listed.stdout
    assert b"leak" in listed.stdout
    resumed = await run(stoppable, "resume", stop_id, "-o", "json")
    assert [stop["stopId"] for stop in resumed.document] == [stop_id]
    assert (await run(stoppable, "stops")).stdout == b"no emergency stop is in force\n"


async def test_it_says_what_is_not_confirmed(stoppable: RunningServer) -> None:
    async with stoppable.agent():
        refused = await run(stoppable, "stop", "--all", "--on", "nobody")
        assert (refused.code, refused.stderr) == (2, "distributor: give either --all or --on\n")
        refused = await run(stoppable, "stop", "--on", "agent123", "--on", "nobody")
    assert refused.code == 1
    assert b"refused" in refused.stdout
    assert b"does not know emergency stops" in refused.stdout
    assert refused.stdout.endswith(b"1 refused, 1 unreachable\n")
    assert "resume it with: distributor resume stop-" in refused.stderr


async def test_an_agent_that_does_not_answer_in_time(stoppable: RunningServer) -> None:
    async with stoppable.agent(halts=pb.HaltMemory()):
        assert (await run(stoppable, "stop", "--all", "--timeout", "0.1")).code == 3


async def test_what_is_not_there_cannot_be_resumed(stoppable: RunningServer) -> None:
    assert (await run(stoppable, "resume", "stop-1")).code == 4
    assert (await run(stoppable, "resume")).code == 2
    assert (await run(stoppable, "resume", "--all")).code == 0
