"""Handlers that block, raise what ends processes, or do not stop: their command fails, the agent goes on."""

from __future__ import annotations

import _thread
import asyncio
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest

from distributor.agent import Agent, BlockingContext, CommandContext, CommandFailed
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import serving
from tests.support.waiting import PATIENCE_SECONDS

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
FAILED = command_pb2.COMMAND_STATUS_FAILED
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED
TIMEOUT = command_pb2.COMMAND_STATUS_TIMEOUT


async def test_a_handler_that_blocks_stops_neither_heartbeats_nor_acknowledgements(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    release = threading.Event()

    @agent.handler("BLOCK")
    async def block(command: CommandContext) -> str:
        release.wait(PATIENCE_SECONDS)
        return "done"

    async with serving(agent, gateway, heartbeat_interval=0.5) as served:
        session = served.session
        await session.command(assignment("a", "BLOCK"))
        await session.started("a")
        await session.command(assignment("b", "BLOCK"), assignment("p"))
        await session.until(lambda seen: any(r.command_id == "b" for m in seen for r in m.received))
        assert (await session.result("p")).status == COMPLETED
        beats = sum(message.HasField("heartbeat") for message in session.seen)
        await session.until(lambda seen: sum(message.HasField("heartbeat") for message in seen) >= beats + 3)
        release.set()
        assert (await session.result("a")).status == COMPLETED
        assert (await session.result("b")).status == COMPLETED


async def test_received_is_sent_before_the_handler_is_called(gateway: ScriptedGateway, agent: Agent) -> None:
    @agent.handler("INSTANT")
    async def instant(command: CommandContext) -> None:
        """Ends at once."""

    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "INSTANT"))
        await served.session.result("a")
        first = next(message for message in served.session.seen if message.received)
        assert not first.started
        assert not first.results


async def test_a_def_handler_runs_in_a_thread_of_its_own(gateway: ScriptedGateway, agent: Agent) -> None:
    meeting = threading.Barrier(2)

    @agent.handler("MEET")
    def meet(command: BlockingContext) -> dict[str, object]:
        meeting.wait(PATIENCE_SECONDS)
        command.output("met\n")
        return {"n": command.params["n"], "daemon": threading.current_thread().daemon}

    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "MEET", n=1), assignment("b", "MEET", n=2))
        for number, command_id in enumerate("ab", start=1):
            result = await served.session.result(command_id)
            assert (result.status, dict(result.data.struct_value)) == (COMPLETED, {"n": number, "daemon": True})
            assert served.session.output(command_id) == b"met\n"


async def test_a_def_handler_waits_for_room_for_its_output(gateway: ScriptedGateway, agent: Agent) -> None:
    @agent.handler("PRINT")
    def print_much(command: BlockingContext) -> None:
        for _ in range(10):
            command.output(b"x" * 1_000)

    async with serving(agent, gateway, max_output=2_500) as served:
        await served.session.command(assignment("a", "PRINT"))
        assert (await served.session.result("a")).output_bytes == 10_000
        assert served.session.output("a") == b"x" * 10_000


@pytest.mark.parametrize("way", ["sleep", "output", "stopping"])
async def test_a_def_handler_is_told_to_stop(gateway: ScriptedGateway, agent: Agent, way: str) -> None:
    @agent.handler("WORK")
    def work(command: BlockingContext) -> None:
        command.output("begun")
        while not command.stopping:
            if way == "sleep":
                command.sleep(PATIENCE_SECONDS)
            elif way == "output":
                command.output(b"x" * 10_000)
            else:
                time.sleep(0.001)

    async with serving(agent, gateway, max_output=20_000) as served:
        served.session.ack_output = False
        await served.session.command(assignment("a", "WORK"))
        await served.session.until(lambda _: served.session.output("a").startswith(b"begun"))
        await served.session.cancel("a")
        result = await served.session.result("a")
        assert (result.status, result.reason.code) == (CANCELLED, "cancelled")


def raises(error: type[BaseException]) -> Callable[[BlockingContext], None]:
    def handler(command: BlockingContext) -> None:
        raise error

    return handler


def fails_in_bytes(command: BlockingContext) -> None:
    raise CommandFailed("no_disk", cast(str, b"the disk is full"))


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (lambda command: sys.exit(3), "SystemExit: 3"),
        (lambda command: _thread.exit(), "SystemExit"),
        (raises(KeyboardInterrupt), "KeyboardInterrupt"),
        (raises(GeneratorExit), "GeneratorExit"),
        (
            fails_in_bytes,
            "the handler raised CommandFailed, which cannot be reported: "
            "AttributeError: 'bytes' object has no attribute 'encode'",
        ),
        (lambda command: asyncio.sleep(0), "a def handler returned an awaitable; declare it with async def"),
    ],
    ids=["sys.exit", "_thread.exit", "KeyboardInterrupt", "GeneratorExit", "bytes", "coroutine"],
)
async def test_what_would_end_a_thread_ends_the_command(
    gateway: ScriptedGateway, agent: Agent, handler: Callable[[BlockingContext], object], message: str
) -> None:
    agent.add_handler("EXIT", handler)
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "EXIT"))
        result = await served.session.result("a")
        assert (result.status, result.reason.code, result.reason.message) == (FAILED, "handler_error", message)
        await served.session.command(assignment("p"))
        assert (await served.session.result("p")).status == COMPLETED


async def test_a_task_of_a_handler_that_exits_does_not_end_the_handlers_loop(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    @agent.handler("EXIT")
    async def exits(command: CommandContext) -> None:
        async def leave() -> None:
            sys.exit(5)

        await asyncio.create_task(leave())

    @agent.handler("FINE")
    async def fine(command: CommandContext) -> str:
        await asyncio.sleep(0)
        return "fine"

    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "EXIT"))
        result = await served.session.result("a")
        assert (result.status, result.reason.message) == (FAILED, "SystemExit: 5")
        await served.session.command(assignment("b", "FINE"))
        assert (await served.session.result("b")).status == COMPLETED


async def test_a_handler_that_blocks_past_its_time_limit_keeps_its_place_and_the_others_go_on(
    gateway: ScriptedGateway,
) -> None:
    agent = Agent("agent123", server=gateway.address, capacity=2, stop_grace=0.05)
    release = threading.Event()

    @agent.handler("BLOCK")
    async def block(command: CommandContext) -> None:
        release.wait(PATIENCE_SECONDS)

    @agent.handler("FINE")
    async def fine(command: CommandContext) -> str:
        await asyncio.sleep(0)
        return "fine"

    try:
        async with serving(agent, gateway) as served:
            session = served.session
            await session.command(assignment("a", "BLOCK", time_limit=1))
            result = await session.result("a")
            assert (result.status, result.reason.code) == (FAILED, "would_not_stop")
            beats = [message.heartbeat for message in session.seen if message.HasField("heartbeat")]
            assert (beats[-1].credit, beats[-1].running) == (1, 0)
            await session.command(assignment("b", "FINE"))
            assert (await session.result("b")).status == COMPLETED
            release.set()
            await session.until(lambda seen: seen[-1].heartbeat.credit == 2)
    finally:
        release.set()


async def test_commands_that_a_blocked_loop_has_not_come_to_run_on_a_new_one(gateway: ScriptedGateway) -> None:
    agent = Agent("agent123", server=gateway.address, capacity=2, stop_grace=0.05)
    release = threading.Event()

    @agent.handler("BLOCK")
    async def block(command: CommandContext) -> None:
        release.wait()

    @agent.handler("PRINT")
    async def fine(command: CommandContext) -> str:
        await command.output(b"x" * 3_000)
        return "fine"

    try:
        async with serving(agent, gateway, max_output=1_000) as served:
            session = served.session
            await session.command(assignment("a", "BLOCK", time_limit=1), assignment("b", "PRINT"))
            assert (await session.result("a")).reason.code == "would_not_stop"
            assert (await session.result("b")).status == COMPLETED
            assert session.output("b") == b"x" * 3_000
    finally:
        release.set()


async def test_a_command_that_waits_for_a_blocked_loop_can_be_cancelled(gateway: ScriptedGateway) -> None:
    agent = Agent("agent123", server=gateway.address, capacity=2, stop_grace=PATIENCE_SECONDS)
    release = threading.Event()
    called: list[str] = []

    @agent.handler("BLOCK")
    async def block(command: CommandContext) -> None:
        called.append(command.command_id)
        release.wait()

    try:
        async with serving(agent, gateway) as served:
            session = served.session
            await session.command(assignment("a", "BLOCK"))
            await session.started("a")
            await session.command(assignment("b", "BLOCK"))
            await session.started("b")
            await session.cancel("b")
            result = await session.result("b")
            assert (result.status, result.reason.code) == (CANCELLED, "cancelled")
            release.set()
            assert (await session.result("a")).status == COMPLETED
            assert called == ["a"]
    finally:
        release.set()


async def test_a_handler_that_blocks_after_it_was_asked_to_stop_does_not_hold_up_others(
    gateway: ScriptedGateway,
) -> None:
    agent = Agent("agent123", server=gateway.address, capacity=3, stop_grace=0.05)
    release, block_now, blocking = threading.Event(), threading.Event(), threading.Event()

    @agent.handler("STUBBORN")
    async def stubborn(command: CommandContext) -> None:
        while not block_now.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
        blocking.set()
        release.wait()

    @agent.handler("FINE")
    async def fine(command: CommandContext) -> str:
        await asyncio.sleep(0)
        return "fine"

    try:
        async with serving(agent, gateway) as served:
            session = served.session
            await session.command(assignment("a", "STUBBORN", time_limit=1))
            assert (await session.result("a")).reason.code == "would_not_stop"
            block_now.set()
            # One that had begun would stay on the blocked loop.
            assert await asyncio.to_thread(blocking.wait, PATIENCE_SECONDS)
            await session.command(assignment("b", "FINE"))
            assert (await session.result("b")).status == COMPLETED
    finally:
        release.set()


async def test_the_agent_can_be_stopped_from_a_handler(gateway: ScriptedGateway, agent: Agent) -> None:
    @agent.handler("LEAVE")
    def leave(command: BlockingContext) -> None:
        agent.stop("enough")
        raise CommandFailed("left", "as asked")

    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "LEAVE"))
        assert (await served.session.result("a")).reason.code == "left"
        await served.task
