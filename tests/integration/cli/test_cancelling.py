"""Cancelling with command-sender, and waiting until nothing runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.driven_agent import DrivenAgent
from tests.support.launched_sender import run_sender, start_sender
from tests.support.running_server import CANCELLED, COMPLETED, FAILED, RunningServer
from tests.support.waiting import PATIENCE_SECONDS

T = TypeVar("T")

UNKNOWN = "01980000-0000-7000-8000-ffffffffffff"
SURVIVORS = [pb.SurvivingProcess(pid=12, name="sleep 9")]


async def started(running: RunningServer, agent: DrivenAgent) -> str:
    command_id = await running.queue("a1")
    await agent.start(command_id)
    return command_id


async def report(agent: DrivenAgent, command_id: str, finding: pb.CancelFinding.ValueType, **fields: Any) -> None:
    lease_id = (await agent.assignment(command_id)).lease_id
    one = pb.CancelReport(command_id=command_id, finding=finding, lease_id=lease_id, **fields)
    await agent.wire.send(cancel_reports=[one])


async def soon(awaited: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await awaited


async def lines_until(stream: Any, end: str) -> list[str]:
    """The lines up to one that ends so."""
    lines = [""]
    while not lines[-1].endswith(end):
        lines.append((await soon(stream.readline())).decode().rstrip("\n"))
        assert lines[-1], "the program ended"
    return lines[1:]


async def test_each_stage_is_shown_until_the_command_is_stopped(running: RunningServer, agent: DrivenAgent) -> None:
    command_id = await started(running, agent)
    process = await start_sender(running.address, "cancel", command_id, "--wait", "--reason=enough")
    assert process.stdout
    assert process.stderr

    lines = await lines_until(process.stderr, "sent to the agent")
    await report(agent, command_id, pb.CANCEL_FINDING_STOPPING)
    lines += await lines_until(process.stderr, "stopping it")
    await agent.finish(command_id, CANCELLED)

    assert (await soon(process.stdout.read())).decode() == f"{command_id} is cancelled\n"
    assert await soon(process.wait()) == 0
    stages = ["sent to the agent", "the agent is stopping it"]
    assert lines[-2:] == [f"{command_id}: cancel requested; {stage}" for stage in stages]
    assert lines[:-2] in ([], [f"{command_id}: cancel requested; not sent to the agent yet"])


async def test_what_could_not_be_stopped_ends_the_wait(running: RunningServer, agent: DrivenAgent) -> None:
    command_id = await started(running, agent)
    process = await start_sender(running.address, "cancel", command_id, "--wait")
    assert process.stdout
    assert process.stderr

    await lines_until(process.stderr, "sent to the agent")
    await report(agent, command_id, pb.CANCEL_FINDING_COULD_NOT_STOP, survivors=SURVIVORS)

    text = f"{command_id} could not be stopped: still running: 12 (sleep 9)\n"
    assert (await soon(process.stdout.read())).decode() == text
    assert await soon(process.wait()) == 1


@pytest.mark.parametrize(
    ("ending", "code", "text"),
    [
        ({"status": COMPLETED}, 0, "ended before it was stopped: completed"),
        ({"status": CANCELLED, "survivors": SURVIVORS}, 1, "ended: failed; still running: 12 (sleep 9)"),
    ],
)
async def test_a_command_that_ends_otherwise(
    running: RunningServer, agent: DrivenAgent, ending: dict[str, Any], code: int, text: str
) -> None:
    command_id = await started(running, agent)
    process = await start_sender(running.address, "cancel", command_id, "--wait")
    assert process.stdout
    assert process.stderr

    await lines_until(process.stderr, "sent to the agent")
    await agent.finish(command_id, **ending)

    assert (await soon(process.stdout.read())).decode() == f"{command_id} {text}\n"
    assert await soon(process.wait()) == code


async def test_many_of_which_some_have_ended_or_are_unknown(running: RunningServer, agent: DrivenAgent) -> None:
    ended = await started(running, agent)
    await agent.finish(ended, FAILED, reason="exit_nonzero")
    waiting = await running.queue("away")

    finished = await run_sender(running.address, "cancel", ended, UNKNOWN, waiting, ended, "--wait")

    assert finished.stdout.decode() == f"{ended} had ended: failed\n{waiting} is cancelled\n"
    assert finished.stderr == f"error: there is no command {UNKNOWN}, or it is no longer kept\n"
    assert finished.code == 4


async def test_a_timeout_leaves_the_cancel_in_effect(running: RunningServer, agent: DrivenAgent) -> None:
    command_id = await started(running, agent)

    finished = await run_sender(running.address, "cancel", command_id, "--wait", "--timeout=3s")

    assert finished.code == 3
    assert finished.stdout.decode() == f"{command_id} will be stopped by its agent\n"
    assert finished.stderr.endswith(
        f"error: not ended after 3 s of waiting; the cancels stay in effect; not ended: {command_id}\n"
    )
    assert (await running.state(command_id)).HasField("cancel_time")


async def test_an_interrupt_leaves_the_cancel_in_effect(running: RunningServer, agent: DrivenAgent) -> None:
    command_id = await started(running, agent)
    process = await start_sender(running.address, "cancel", command_id, "--wait")
    assert process.stderr

    await lines_until(process.stderr, "sent to the agent")
    process.send_signal(signal.SIGINT)

    text = f"interrupted; the cancels stay in effect; not ended: {command_id}\n"
    assert (await soon(process.stderr.read())).decode() == text
    assert await soon(process.wait()) == 130


async def test_a_cancel_says_that_its_agent_is_away(running: RunningServer) -> None:
    async with running.agent("b1") as agent:
        command_id = await running.queue("b1")
        await agent.start(await agent.next_assignment(command_id))
    await running.until_away("b1")

    process = await start_sender(running.address, "cancel", command_id, "--wait")
    assert process.stderr

    lines = await lines_until(process.stderr, "may still be running")
    assert lines[0] == f"{command_id}: cancel requested; not sent to the agent yet"
    assert lines[-1].startswith("agent b1 has been away since 20")
    process.kill()
    await process.wait()


async def test_as_json(running: RunningServer, agent: DrivenAgent) -> None:
    first, second = await started(running, agent), await started(running, agent)

    async def end(command_id: str) -> None:
        await agent.wire.until(lambda: command_id in [one.command_id for one in agent.wire.cancels])
        await agent.finish(command_id, CANCELLED)

    process = await start_sender(running.address, "cancel", first, "--wait", "-o", "jsonl")
    assert process.stdout
    await end(first)
    records = (await soon(process.stdout.read())).decode().splitlines()
    assert '"status": "assigned"' in records[0]
    assert '"status": "cancelled"' in records[-1]

    process = await start_sender(running.address, "cancel", second, "--wait", "-o", "json")
    assert process.stdout
    await end(second)
    assert '"cancelStage": "stopped"' in (await soon(process.stdout.read())).decode()
