"""An agent process whose handlers will not stop, or end the process itself."""

from __future__ import annotations

import asyncio
import signal
import sys

import grpc
import pytest

from distributor.agent import Agent
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import serving
from tests.support.waiting import PATIENCE_SECONDS

TOO_LARGE = "Received message larger than max (9000000 vs. 8388608)"
AGENT = """
import asyncio, os, sys, time
from distributor.agent import Agent

agent = Agent("agent123", server=sys.argv[1], capacity=4, stop_grace=0.2)

@agent.handler("BLOCK")
async def block(command):
    await command.output("blocks")
    while True:
        time.sleep(0.05)

@agent.handler("SPIN")
def spin(command):
    while True:
        time.sleep(0.05)

@agent.handler("THREAD")
async def thread(command):
    await asyncio.to_thread(time.sleep, 3_600)

@agent.handler("DIE")
async def die(command):
    os._exit(7)

agent.run()
"""


async def started_agent(gateway: ScriptedGateway) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", AGENT, gateway.address)


async def test_two_sigterms_end_a_process_whose_handlers_do_not_stop(gateway: ScriptedGateway) -> None:
    process = await started_agent(gateway)
    try:
        session = await gateway.session()
        await session.command(assignment("s", "SPIN"), assignment("t", "THREAD"), assignment("b", "BLOCK"))
        for command_id in "stb":
            await session.started(command_id)
        # One that its loop has not reached would be stopped without a call.
        await session.until(lambda _: session.output("b") == b"blocks")
        process.send_signal(signal.SIGTERM)
        await session.until(lambda seen: seen[-1].HasField("heartbeat"))
        process.send_signal(signal.SIGTERM)
        for command_id in "sb":
            assert (await session.result(command_id)).reason.code == "would_not_stop"
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0
        assert session.said_goodbye()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_handler_that_ends_the_process_was_acknowledged_before(gateway: ScriptedGateway) -> None:
    """So that the server ends it as `outcome_unknown` when the agent comes back, and does not give it out again."""
    process = await started_agent(gateway)
    session = await gateway.session()
    await session.command(assignment("d", "DIE"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await process.wait() == 7
    await session.until(lambda seen: any(part.command_id == "d" for message in seen for part in message.received))


@pytest.mark.parametrize("details", ["Bandwidth exhausted", "too_many_pings", "Stream closed: ENHANCE_YOUR_CALM"])
async def test_no_result_is_replaced_for_what_another_fault_did(
    gateway: ScriptedGateway, agent: Agent, details: str
) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        session.ack_results = False
        await session.command(assignment("a"))
        for _ in range(3):
            await session.result("a")
            session.drop(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
            session = await gateway.attached()
            session.ack_results = False
            await session.welcome()
        assert (await session.result("a")).status == command_pb2.COMMAND_STATUS_COMPLETED


async def test_a_result_that_another_message_ended_the_stream_of_is_not_replaced(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        session.ack_results = False
        await session.command(assignment("a"))
        await session.result("a")
        session.drop(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE)
        tried = await gateway.session()
        assert (await tried.result("a")).status == command_pb2.COMMAND_STATUS_COMPLETED


async def test_a_result_that_ends_its_stream_is_replaced_by_a_failure(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        session.ack_results = False
        await session.command(assignment("a"), assignment("b"))
        await session.result("b")
        session.drop(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE)
        # Both are in doubt: the next stream gets them one by one.
        alone = await gateway.attached()
        alone.ack_results = False
        await alone.welcome()
        await alone.result("a")
        alone.drop(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE)
        mended = await gateway.session()
        result = await mended.result("a")
        assert (result.status, result.reason.code) == (command_pb2.COMMAND_STATUS_FAILED, "result_rejected")
        assert (await mended.result("b")).status == command_pb2.COMMAND_STATUS_COMPLETED
