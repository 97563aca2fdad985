"""Emergency stops with the reference agent on real servers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from distributor.agent import Agent, BlockingContext, CommandContext, JournalPolicy
from tests.support.emergency import CONFIRMED, REFUSED, UNREACHABLE, reports, resume, stop
from tests.support.running_server import ASSIGNED, CANCELLED, COMPLETED, QUEUED, RunningServer, running_server
from tests.support.serving_agent import background
from tests.support.waiting import eventually, until


class Work:
    """Handlers, and how often each command has started."""

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()
        self.release = threading.Event()
        """Lets STUBBORN end."""

    async def wait(self, command: CommandContext) -> None:
        self.starts[command.command_id] += 1
        await asyncio.sleep(3_600)

    async def quick(self, command: CommandContext) -> None:
        self.starts[command.command_id] += 1

    def stubborn(self, command: BlockingContext) -> None:
        self.starts[command.command_id] += 1
        self.release.wait()


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.release.set()


def agent_of(work: Work, server: str, journal: Path | None = None, agent_id: str = "agent123") -> Agent:
    agent = Agent(agent_id, server=server, capacity=5, stop_grace=0.1)
    agent.journal = JournalPolicy(journal) if journal else None
    agent.add_handler("WAIT", work.wait)
    agent.add_handler("QUICK", work.quick)
    agent.add_handler("STUBBORN", work.stubborn)
    return agent


@asynccontextmanager
async def serving(agent: Agent, server: RunningServer) -> AsyncIterator[None]:
    """Serve until the end of the test, attached to this server."""
    async with background(agent.serve()):
        await until(lambda: server.process.has_agent(agent.agent_id))
        yield


async def test_a_stop_ends_what_runs_and_resume_starts_what_waits(valkey_url: str, work: Work) -> None:
    async with running_server(valkey_url) as server, serving(agent_of(work, server.address), server):
        running = await server.queue(command_type="WAIT")
        await until(lambda: work.starts[running])
        begun = await stop(server, reason="leak")
        assert (await reports(server, begun.stop_id))["agent123"].status == CONFIRMED
        result = await server.result(running)
        assert (result.status, result.reason.code) == (CANCELLED, "emergency_stop")

        async def said() -> bool:
            """Whether the agent's next heartbeat has said so."""
            return "emergency_stop" in [problem.code for problem in (await server.agent_info()).problems]

        await eventually(said)
        assert await resume(server) == [begun.stop_id]
        queued = await server.queue(command_type="QUICK")
        assert (await server.result(queued)).status == COMPLETED


async def test_a_handler_that_does_not_end_is_reported_until_it_does(valkey_url: str, work: Work) -> None:
    async with running_server(valkey_url) as server, serving(agent_of(work, server.address), server):
        running = await server.queue(command_type="STUBBORN")
        await until(lambda: work.starts[running])
        begun = await stop(server)
        refused = (await reports(server, begun.stop_id))["agent123"]
        assert (refused.status, refused.reason.code) == (REFUSED, "could_not_stop")
        assert [one.command_id for one in refused.running] == [running]
        assert "STUBBORN" in refused.running[0].survivors
        work.release.set()
        await server.result(running)

        async def confirmed() -> bool:
            return (await reports(server, begun.stop_id, 0))["agent123"].status == CONFIRMED

        await eventually(confirmed)


async def test_a_stop_at_one_server_reaches_the_agents_of_another(valkey_url: str, work: Work) -> None:
    two = running_server(valkey_url), running_server(valkey_url)
    async with two[0] as one, two[1] as other, serving(agent_of(work, one.address), one):
        running = await one.queue(command_type="WAIT")
        await until(lambda: work.starts[running])
        begun = await stop(other)
        assert (await reports(other, begun.stop_id))["agent123"].status == CONFIRMED
        assert (await other.result(running)).reason.code == "emergency_stop"
        await resume(one)
        assert (await other.result(await other.queue(command_type="QUICK"))).status == COMPLETED


async def test_an_agent_whose_server_has_gone_stops_at_the_next(valkey_url: str, work: Work, tmp_path: Path) -> None:
    async with running_server(valkey_url) as other:
        async with AsyncExitStack() as first:
            one = await first.enter_async_context(running_server(valkey_url))
            agent = agent_of(work, one.address, tmp_path / "journal")
            serving = asyncio.create_task(agent.serve())
            await until(lambda: one.process.has_agent("agent123"))
            running = await one.queue(command_type="WAIT")
            await until(lambda: work.starts[running])
        begun = await stop(other)
        assert (await other.state(running)).status == ASSIGNED
        assert (await reports(other, begun.stop_id))["agent123"].status == UNREACHABLE
        serving.cancel()
        await asyncio.wait({serving})
        async with background(agent_of(work, other.address, tmp_path / "journal").serve()):
            assert (await other.result(running)).reason.code == "emergency_stop"

            async def confirmed() -> bool:
                return (await reports(other, begun.stop_id, 0))["agent123"].status == CONFIRMED

            await eventually(confirmed)
    assert work.starts[running] == 1


async def test_a_stop_survives_the_restart_of_agent_and_server(valkey_url: str, work: Work, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with running_server(valkey_url) as server, serving(agent_of(work, server.address, journal), server):
        begun = await stop(server)
        assert (await reports(server, begun.stop_id))["agent123"].status == CONFIRMED
    async with running_server(valkey_url) as server:
        assert (await reports(server, begun.stop_id, 0))["agent123"].status == CONFIRMED
        restarted = agent_of(work, server.address, journal)
        async with serving(restarted, server):
            assert (await reports(server, begun.stop_id))["agent123"].status == CONFIRMED
            await resume(server)
            assert (await server.result(await server.queue(command_type="QUICK"))).status == COMPLETED


async def test_an_agent_resumes_if_the_stop_ended_while_it_was_away(
    valkey_url: str, work: Work, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    async with running_server(valkey_url) as server:
        async with serving(agent_of(work, server.address, journal), server):
            begun = await stop(server)
            assert (await reports(server, begun.stop_id))["agent123"].status == CONFIRMED
        await server.until_away()
        await resume(server)
        queued = await server.queue(command_type="QUICK")
        assert (await server.state(queued)).status == QUEUED
        async with serving(agent_of(work, server.address, journal), server):
            assert (await server.result(queued)).status == COMPLETED


async def test_an_agent_that_is_killed_is_unreachable(valkey_url: str, work: Work) -> None:
    async with running_server(valkey_url) as server:
        async with serving(agent_of(work, server.address), server):
            pass
        await server.until_away()
        begun = await stop(server, "agent*")
        assert (await reports(server, begun.stop_id))["agent123"].status == UNREACHABLE
