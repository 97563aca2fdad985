"""WatchCommand: the state of one command, its output, its result; whenever one comes to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from distributor.app.timing import ServerTiming
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.command_service_pb2 import ListCommandsRequest, WatchCommandRequest, WatchCommandResponse
from tests.support.received_errors import error_of_stream
from tests.support.running_server import (
    ASSIGNED,
    COMPLETED,
    FAILED,
    QUEUED,
    RunningServer,
    running_server,
)
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import WireAgent, running


class Viewer:
    """Keeps what it sees."""

    def __init__(self, server: RunningServer, command_id: str, **request: Any) -> None:
        self.seen: list[WatchCommandResponse] = []
        request = {"command_id": command_id} | request
        watch = WatchCommandRequest(**request)
        # Any: what is read may also be EOF, so to the stubs it is an object.
        self._call: Any = server.commands.WatchCommand(watch, timeout=2 * PATIENCE_SECONDS)

    async def next(self, kind: str = "") -> Any:
        """The next update, or the next of a kind."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                update = await self._call.read()
                self.seen.append(update)
                if kind in ("", update.WhichOneof("update")):
                    return getattr(update, update.WhichOneof("update"))

    async def rest(self) -> list[WatchCommandResponse]:
        """Everything, up to the end of the stream."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (update := await self._call.read()) is not grpc.aio.EOF:
                self.seen.append(update)
        return self.seen

    @property
    def output(self) -> bytes:
        return b"".join(update.output.data for update in self.seen)

    @property
    def kinds(self) -> list[str]:
        return [str(update.WhichOneof("update")) for update in self.seen]


@pytest.fixture
async def agent(server: RunningServer) -> AsyncIterator[WireAgent]:
    async with server.agent() as agent:
        yield agent


async def started(server: RunningServer, agent: WireAgent) -> pb.Assignment:
    assignment = await agent.next_assignment(await server.queue())
    await agent.start(assignment)
    return assignment


async def test_from_the_queue_to_the_result(server: RunningServer) -> None:
    command_id = await server.queue()
    viewer = Viewer(server, command_id)
    first = await viewer.next()
    assert (first.command_id, first.agent_id, first.type, first.priority) == (command_id, "agent123", "PRINT", 50)
    assert first.state.status == QUEUED
    async with server.agent() as agent:
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        assert (await viewer.next("command")).state.status == ASSIGNED
        await agent.print(assignment, b"line 1\n", 0)
        chunk = await viewer.next("output")
        assert (chunk.data, chunk.offset, chunk.command_id) == (b"line 1\n", 0, command_id)
        assert chunk.HasField("receive_time")
        await agent.finish(assignment, exit_code=0, output_bytes=7)
    await viewer.rest()
    assert viewer.kinds[-2:] == ["command", "result"]
    assert viewer.seen[-2].command.state.status == COMPLETED
    assert viewer.seen[-1].result.status == COMPLETED


async def test_output_comes_as_it_is_written(server: RunningServer, agent: WireAgent) -> None:
    assignment = await started(server, agent)
    viewer = Viewer(server, assignment.command.command_id)
    await viewer.next("command")
    offset = 0
    for line in (b"one\n", b"two\n", b"three\n"):
        await agent.print(assignment, line, offset)
        offset += len(line)
        assert (await viewer.next("output")).data == line


async def test_all_output_comes_before_the_terminal_state(server: RunningServer, agent: WireAgent) -> None:
    assignment = await started(server, agent)
    viewer = Viewer(server, assignment.command.command_id)
    await viewer.next("command")
    data = bytes(range(256)) * 200
    for offset in range(0, len(data), 6_400):
        await agent.print(assignment, data[offset : offset + 6_400], offset)
    await agent.finish(assignment, output_bytes=len(data))
    await viewer.rest()
    assert viewer.output == data
    assert viewer.kinds[-2:] == ["command", "result"]
    assert "output" not in viewer.kinds[viewer.kinds.index("command", len(viewer.kinds) - 2) :]


@pytest.mark.parametrize(("offset", "rest"), [(0, b"one two"), (2, b"e two"), (4, b"two"), (7, b""), (99, b"")])
async def test_a_late_viewer_gets_all_output_from_its_offset(
    server: RunningServer, agent: WireAgent, offset: int, rest: bytes
) -> None:
    assignment = await started(server, agent)
    await agent.print(assignment, b"one ", 0)
    await agent.print(assignment, b"two", 4)
    await agent.finish(assignment, output_bytes=7)
    viewer = Viewer(server, assignment.command.command_id, output_offset=offset)
    await viewer.rest()
    assert viewer.output == rest
    assert viewer.kinds[-2:] == ["command", "result"]
    assert all(update.output.offset >= offset for update in viewer.seen if update.HasField("output"))


async def test_a_viewer_in_the_middle_gets_what_was_and_what_comes(server: RunningServer, agent: WireAgent) -> None:
    assignment = await started(server, agent)
    await agent.print(assignment, b"before ", 0)
    viewer = Viewer(server, assignment.command.command_id)
    assert (await viewer.next("output")).data == b"before "
    await agent.print(assignment, b"after", 7)
    assert (await viewer.next("output")).data == b"after"


async def test_output_may_be_left_out(server: RunningServer, agent: WireAgent) -> None:
    assignment = await started(server, agent)
    viewer = Viewer(server, assignment.command.command_id, without_output=True)
    await viewer.next("command")
    await agent.print(assignment, b"one ", 0)
    await agent.finish(assignment, output_bytes=4)
    await viewer.rest()
    assert set(viewer.kinds) == {"command", "result"}


async def test_output_that_was_cut_is_told_as_a_gap(valkey_url: str) -> None:
    async with running_server(valkey_url, output_kept_bytes=65_536) as server, server.agent() as agent:
        assignment = await started(server, agent)
        for n in range(10):
            await agent.print(assignment, bytes([n]) * 10_000, n * 10_000)
        await agent.finish(assignment, output_bytes=100_000)
        viewer = Viewer(server, assignment.command.command_id)
        await viewer.rest()
        (gap,) = [update.gap for update in viewer.seen if update.HasField("gap")]
        assert gap.begin_offset == 0
        assert 100_000 - 65_536 - 10_000 <= gap.end_offset <= 100_000 - 65_536 + 10_000
        assert gap.end_offset + len(viewer.output) == 100_000
        assert viewer.seen[-1].result.output_dropped_bytes == gap.end_offset
        assert viewer.seen[-1].result.output_bytes == 100_000


async def test_output_that_was_never_sent_is_no_gap(server: RunningServer, agent: WireAgent) -> None:
    assignment = await started(server, agent)
    await agent.print(assignment, b"kept", 0)
    await agent.finish(assignment, output_bytes=10)
    viewer = Viewer(server, assignment.command.command_id)
    await viewer.rest()
    assert viewer.kinds == ["output", "command", "result"]
    assert viewer.seen[-1].result.output_bytes == 4


async def test_an_end_that_could_not_be_kept_is_told_as_a_gap(server: RunningServer) -> None:
    """The server has acknowledged all of it, by the account that the agent gives when it comes back."""
    async with server.agent() as agent:
        assignment = await started(server, agent)
        await agent.print(assignment, b"kept", 0)
    async with server.agent(running=[running(assignment, output_offset=10)]) as agent:
        await agent.finish(assignment, output_bytes=10)
    viewer = Viewer(server, assignment.command.command_id)
    await viewer.rest()
    assert viewer.kinds == ["output", "gap", "command", "result"]
    assert (viewer.seen[1].gap.begin_offset, viewer.seen[1].gap.end_offset) == (4, 10)
    without = Viewer(server, assignment.command.command_id, without_output=True)
    await without.rest()
    assert without.kinds == ["command", "result"]


async def test_many_viewers_see_the_same(server: RunningServer, agent: WireAgent) -> None:
    assignment = await started(server, agent)
    viewers = [Viewer(server, assignment.command.command_id) for _ in range(10)]
    for viewer in viewers:
        await viewer.next("command")
    await agent.print(assignment, b"for all", 0)
    await agent.finish(assignment, output_bytes=7)
    for viewer in viewers:
        await viewer.rest()
        assert viewer.output == b"for all"
        assert viewer.kinds[-1] == "result"


async def test_the_agent_goes_away_and_comes_back_without_it(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await started(server, agent)
        viewer = Viewer(server, assignment.command.command_id)
        await agent.print(assignment, b"last words", 0)
        await viewer.next("output")
    async with server.agent():
        await viewer.rest()
    assert viewer.output == b"last words"
    assert (viewer.seen[-1].result.status, viewer.seen[-1].result.reason.code) == (FAILED, "outcome_unknown")


async def test_a_drain_ends_watches_as_unavailable(valkey_url: str) -> None:
    # After the grace, what still runs is cut off without a word.
    async with running_server(valkey_url, timing=ServerTiming(shutdown_grace=PATIENCE_SECONDS)) as server:
        command_id = await server.queue()
        watching = server.commands.WatchCommand(WatchCommandRequest(command_id=command_id))
        await watching.read()
        stopping = asyncio.create_task(server.process.stop())
        error = await error_of_stream(watching)
        assert (error.code, error.reason, error.retry_after_seconds) == ("UNAVAILABLE", "DRAINING", 0.5)
        await stopping


async def test_a_watch_goes_on_while_agents_are_served_by_a_draining_server(valkey_url: str) -> None:
    async with running_server(valkey_url, drain_timeout=2 * PATIENCE_SECONDS) as server, server.agent() as agent:
        command_id, other = await server.queue_many(2)
        viewer = Viewer(server, command_id)
        unended = server.commands.WatchCommand(WatchCommandRequest(command_id=other), timeout=PATIENCE_SECONDS)
        assignment, _ = await agent.assigned(2)
        await viewer.next()
        await unended.read()
        stopping = asyncio.create_task(server.process.stop())
        await agent.until(lambda: agent.drained)
        await agent.finish(assignment)
        assert (await viewer.next("result")).status == COMPLETED
        await agent.leave()
        assert (await error_of_stream(unended))[:3] == ("UNAVAILABLE", "", "DRAINING")
        await stopping


async def test_more_watchers_than_allowed_are_refused(valkey_url: str) -> None:
    async with running_server(valkey_url, max_watchers=2) as server:
        command_id = await server.queue()
        viewers = [Viewer(server, command_id) for _ in range(2)]
        for viewer in viewers:
            await viewer.next()
        third = server.commands.WatchCommand(WatchCommandRequest(command_id=command_id))
        error = await error_of_stream(third)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHERS")
        assert "2 watchers already, the limit" in error.text


async def test_a_command_whose_agent_died_says_since_when(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.start(*await agent.assigned())
        await agent.vanish()
    away = await server.until_away()

    (row,) = (await server.commands.ListCommands(ListCommandsRequest())).commands
    watched = await Viewer(server, command_id).next("command")

    for state in (await server.state(command_id), row.state, watched.state):
        assert state.status == ASSIGNED
        assert state.agent_known
        assert state.agent_away_since == away.away_since
