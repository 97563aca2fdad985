"""What an agent holds survives its stream, and the server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from valkey.asyncio import Valkey

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.command_service_pb2 import WatchCommandRequest
from tests.support.running_server import (
    ASSIGNED,
    COMPLETED,
    FAILED,
    QUEUED,
    TIMEOUT,
    RunningServer,
    running_server,
)
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.wire_agent import WireAgent, running

VERDICTS = {"keep": pb.VERDICT_KEEP, "stop": pb.VERDICT_STOP}


async def started(server: RunningServer, agent: WireAgent) -> pb.Assignment:
    """A command that runs, and whose receipts are stored."""
    command_id = await server.queue()
    assignment = await agent.next_assignment(command_id)
    await agent.start(assignment)
    await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
    return assignment


def verdicts(agent: WireAgent) -> list[tuple[str, int, int]]:
    return [(one.command_id, one.verdict, one.output_offset) for one in agent.welcome.verdicts]


async def test_a_command_that_never_reached_its_agent_is_given_out_again(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.next_assignment(command_id)
    async with server.agent() as agent:
        assignment = await agent.next_assignment(command_id, attempt=2)
        await agent.finish(assignment)
        assert (await server.result(command_id)).status == COMPLETED


async def test_a_running_command_goes_on_under_its_lease(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await started(server, agent)
        await agent.print(assignment, b"before ", 0)
    command_id = assignment.command.command_id
    before = (await server.state(command_id)).receipts
    async with server.agent(running=[running(assignment, output_offset=12)]) as agent:
        assert verdicts(agent) == [(command_id, VERDICTS["keep"], 7)]
        assert await agent.print(assignment, b"after", 7) == 12
        (ack,) = await agent.finish(assignment, output_bytes=12)
        assert ack.verdict == pb.RESULT_VERDICT_STORED
        kept = await server.result(command_id)
        assert (kept.status, kept.attempt, kept.output_bytes) == (COMPLETED, 1, 12)
        after = (await server.state(command_id)).receipts
        assert (after.start_time, after.assign_time) == (before.start_time, before.assign_time)
        assert agent.assignments == []


async def test_what_it_holds_counts_against_its_room(server: RunningServer) -> None:
    async with server.agent(capacity=1) as agent:
        assignment = await started(server, agent)
    waiting = await server.queue()
    async with server.agent(capacity=1, running=[running(assignment)]) as agent:
        await agent.heartbeat(credit=0, running=1)
        assert agent.assignments == []
        await agent.finish(assignment)
        await agent.next_assignment(waiting)


async def test_a_result_that_was_not_acknowledged_is_taken_after_the_reconnect(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await started(server, agent)
    async with server.agent(unacknowledged=[running(assignment)]) as agent:
        assert verdicts(agent) == [(assignment.command.command_id, VERDICTS["keep"], 0)]
        (ack,) = await agent.finish(assignment)
        assert ack.verdict == pb.RESULT_VERDICT_STORED


async def test_a_result_whose_acknowledgement_was_lost_need_not_be_sent_again(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await started(server, agent)
        await agent.finish(assignment)
    async with server.agent(unacknowledged=[running(assignment)]) as agent:
        assert verdicts(agent) == [(assignment.command.command_id, VERDICTS["stop"], 0)]


async def test_a_result_of_a_command_that_has_ended_otherwise_is_kept_as_late(valkey_url: str) -> None:
    quick = {"heartbeat_interval": 0.1, "start_within": 10.0, "offline_after": 60.0, "stop_grace": 0.0}
    async with running_server(valkey_url, **quick) as server, Valkey.from_url(valkey_url) as client:
        async with server.agent() as agent:
            command_id = await server.queue(time_limit=0.1)
            assignment = await agent.next_assignment(command_id)
            await agent.start(assignment)
        assert (await server.result(command_id)).status == TIMEOUT
        async with server.agent(unacknowledged=[running(assignment)]) as agent:
            assert verdicts(agent) == [(command_id, VERDICTS["keep"], 0)]
            (ack,) = await agent.finish(assignment)
            assert ack.verdict == pb.RESULT_VERDICT_LATE
        assert await client.exists(f"cmd:late:{command_id}")
        assert (await server.get(command_id)).late_result.status == COMPLETED
        assert (await server.result(command_id)).status == TIMEOUT


async def test_a_failure_whose_acknowledgement_was_lost_is_no_late_report(valkey_url: str) -> None:
    async with running_server(valkey_url) as server, Valkey.from_url(valkey_url) as client:
        async with server.agent() as agent:
            assignment = await started(server, agent)
            await agent.finish(assignment, status=FAILED)
        async with server.agent(unacknowledged=[running(assignment)]) as agent:
            (ack,) = await agent.finish(assignment, status=FAILED)
            assert ack.verdict == pb.RESULT_VERDICT_STORED
        assert not await client.exists(f"cmd:late:{assignment.command.command_id}")


async def test_what_is_not_the_agents_is_to_be_stopped(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await started(server, agent)
        held = [
            pb.RunningCommand(command_id="00000000-0000-7000-8000-000000000000", lease_id="l"),
            running(assignment),
            pb.RunningCommand(command_id=assignment.command.command_id, lease_id="another"),
        ]
        async with server.agent("agent456", running=held) as other:
            assert [verdict.verdict for verdict in other.welcome.verdicts] == [VERDICTS["stop"]] * 3
        await agent.finish(assignment)
        assert (await server.result(assignment.command.command_id)).status == COMPLETED


async def test_a_run_whose_result_was_stored_but_not_acknowledged_is_counted_once(valkey_url: str) -> None:
    # Each session may be given the next attempt and go without having heard of it.
    async with running_server(valkey_url, delivery_attempts=10) as server:
        async with server.agent() as agent:
            command_id = await server.queue(max_runs=2)
            first = await agent.next_assignment(command_id)
            await agent.start(first)
            await agent.finish(first, status=FAILED, transient=True)
        for _ in range(2):
            async with server.agent(unacknowledged=[running(first)]) as agent:
                assert [verdict.verdict for verdict in agent.welcome.verdicts] == [pb.VERDICT_STORED]
                # To report it once more changes nothing.
                (ack,) = await agent.finish(first, status=FAILED, transient=True)
                assert ack.verdict == pb.RESULT_VERDICT_STORED
                assert (await server.state(command_id)).status != FAILED
        async with server.agent() as agent:
            (last,) = await agent.assigned(1)
            await agent.finish(last)
            assert (await server.result(command_id)).status == COMPLETED


async def test_a_started_command_that_the_agent_comes_back_without_is_never_run_again(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await started(server, agent)
    async with server.agent() as agent:
        kept = await server.result(assignment.command.command_id)
        assert (kept.status, kept.reason.code) == (FAILED, "outcome_unknown")
        await agent.heartbeat()
        assert agent.assignments == []


async def test_a_command_whose_agent_stays_away_ends_within_its_time_limit(valkey_url: str) -> None:
    quick = {"heartbeat_interval": 0.1, "start_within": 2.0, "offline_after": 60.0, "stop_grace": 0.0}
    async with running_server(valkey_url, **quick) as server:
        async with server.agent() as agent:
            command_id = await server.queue(time_limit=1.5)
            await agent.start(await agent.next_assignment(command_id))
            await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
        kept = await server.result(command_id)
        assert (kept.status, kept.reason.code) == (5, "agent_lost")


async def test_a_restart_of_the_server_loses_nothing(valkey_url: str) -> None:
    async with running_server(valkey_url) as server, server.agent(capacity=2) as agent:
        runs = await started(server, agent)
        finished = await started(server, agent)
        waiting = await server.queue()
    async with running_server(valkey_url) as server:
        assert (await server.state(waiting)).status == QUEUED
        assert (await server.state(runs.command.command_id)).status == ASSIGNED
        held, ended = [running(runs)], [running(finished)]
        async with server.agent(capacity=2, running=held, unacknowledged=ended) as agent:
            assert [verdict.verdict for verdict in agent.welcome.verdicts] == [VERDICTS["keep"]] * 2
            acks = await agent.finish(runs, finished)
            assert [ack.verdict for ack in acks] == [pb.RESULT_VERDICT_STORED] * 2
            await agent.finish(await agent.next_assignment(waiting))
        for command_id in (runs.command.command_id, finished.command.command_id, waiting):
            assert (await server.result(command_id)).status == COMPLETED


async def test_a_drain_is_told_and_waited_for(valkey_url: str) -> None:
    async with running_server(valkey_url, drain_timeout=2 * PATIENCE_SECONDS) as server, server.agent() as agent:
        assignment = await started(server, agent)
        stopping = asyncio.create_task(server.process.stop())
        await agent.until(lambda: agent.drained)
        (ack,) = await agent.finish(assignment)
        assert ack.verdict == pb.RESULT_VERDICT_STORED
        assert not stopping.done()
        await agent.leave()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stopping


async def test_a_drain_ends_within_its_timeout(valkey_url: str) -> None:
    async with running_server(valkey_url, drain_timeout=0.3) as server, server.agent() as agent:
        assignment = await started(server, agent)
        waiting = await server.queue()
        unreceived = await agent.next_assignment(waiting)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.process.stop()
        await agent.ended()
    async with running_server(valkey_url) as server, server.agent(running=[running(assignment)]) as agent:
        assert verdicts(agent)[0][1] == VERDICTS["keep"]
        again = await agent.next_assignment(waiting, attempt=2)
        assert again.lease_id != unreceived.lease_id


async def test_a_draining_server_frees_its_address_at_once_and_serves_its_agents_until_they_move(
    valkey_url: str,
) -> None:
    patient = {"drain_timeout": 2 * PATIENCE_SECONDS}
    async with running_server(valkey_url, **patient) as old, old.agent(capacity=2) as agent:
        runs = await started(old, agent)
        stopping = asyncio.create_task(old.process.stop())
        await agent.until(lambda: agent.drained)
        listening = {"listen": old.address, "http_listen": f"127.0.0.1:{old.process.http_port}"}
        async with running_server(valkey_url, **listening) as successor:
            # The old server claims and relays for the agents that it still has.
            queued = await successor.queue()
            assignment = await agent.next_assignment(queued)
            await agent.finish(assignment)
            assert (await successor.result(queued)).status == COMPLETED
            assert not stopping.done()
            async with successor.agent("agent456"):
                await agent.leave()
                async with successor.agent(capacity=2, running=[running(runs)]) as moved:
                    assert verdicts(moved)[0][1] == VERDICTS["keep"]
                    await stopping
                    await moved.finish(runs)
                    assert (await successor.result(runs.command.command_id)).status == COMPLETED


async def test_a_command_that_crosses_the_goodbye_of_an_agent_that_moves_is_given_out_by_the_next_server(
    valkey_url: str,
) -> None:
    patient = {"drain_timeout": 2 * PATIENCE_SECONDS}
    async with running_server(valkey_url, **patient) as old, running_server(valkey_url) as successor:
        async with old.agent() as agent:
            stopping = asyncio.create_task(old.process.stop())
            await agent.until(lambda: agent.drained)
            command_id = await successor.queue()
            await agent.next_assignment(command_id)
            await agent.leave()
        async with successor.agent() as moved:
            await moved.finish(await moved.next_assignment(command_id, attempt=2))
            assert (await successor.result(command_id)).status == COMPLETED
        await stopping


async def test_a_drain_does_not_wait_for_agents_that_have_nowhere_to_go(tmp_path: Path) -> None:
    """With an embedded Valkey no other server can serve them before this one has ended."""
    patient = {"data_dir": tmp_path, "drain_timeout": 2 * PATIENCE_SECONDS}
    async with running_server("", **patient) as server, server.agent() as agent:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.process.stop()
        await agent.ended()
        assert agent.details == "this server is stopping"


async def test_a_late_viewer_of_a_reconnected_command_sees_all_output(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await started(server, agent)
        await agent.print(assignment, b"one ", 0)
    async with server.agent(running=[running(assignment, 4)]) as agent:
        await agent.print(assignment, b"one two", 0)
        await agent.finish(assignment, output_bytes=7)
        request = WatchCommandRequest(command_id=assignment.command.command_id)
        updates = [update async for update in server.commands.WatchCommand(request, timeout=PATIENCE_SECONDS)]
        assert b"".join(update.output.data for update in updates) == b"one two"


async def test_a_result_counts_although_no_server_ran_until_after_its_deadline(valkey_url: str) -> None:
    async with running_server(valkey_url) as server, server.agent() as agent:
        command_id = await server.queue(time_limit=1)
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
    client = Valkey.from_url(valkey_url)
    async with client:
        # A minute without servers, in which the deadline has passed.
        await client.hset("commands:due", "last_ms", int(time.time() * 1000) - 60_000)
        await client.zadd("commands:deadlines", {command_id: 1})
        await client.hset("agent:agent123:session", "last_seen_ms", 1)
        async with running_server(valkey_url) as server:

            async def looked_at() -> bool:
                return float(await client.zscore("commands:deadlines", command_id)) > 1

            await eventually(looked_at)
            async with server.agent(unacknowledged=[running(assignment)]) as agent:
                (ack,) = await agent.finish(assignment)
                assert ack.verdict == pb.RESULT_VERDICT_STORED
                assert (await server.result(command_id)).status == COMPLETED
