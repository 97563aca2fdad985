"""Output of a handler, as the window has room for it."""

from __future__ import annotations

import asyncio

import pytest

from distributor.agent.command_context import CommandContext
from distributor.agent.current_session import CurrentSession
from distributor.agent.output_exchange import DEFAULT_OUTPUT_LIMIT
from distributor.agent.output_window import OutputWindow
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2

SECONDS = 5.0


@pytest.fixture
async def window() -> OutputWindow:
    return OutputWindow()


@pytest.fixture
async def context(window: OutputWindow) -> CommandContext:
    assignment = gateway.Assignment(command=command_pb2.Command(command_id="c1", type="PRINT"), attempt=1)
    return CommandContext(assignment, window, CurrentSession())


async def waiting_for_room(context: CommandContext) -> asyncio.Task[None]:
    """A handler that has filled the window and waits to write on."""
    await context.output(b"x" * DEFAULT_OUTPUT_LIMIT)
    printing = asyncio.create_task(context.output(b"more"))
    await asyncio.sleep(0)
    assert not printing.done()
    return printing


async def test_who_waits_for_room_is_woken_by_the_end_of_the_command(context: CommandContext) -> None:
    printing = await waiting_for_room(context)
    context.end()
    async with asyncio.timeout(SECONDS):
        with pytest.raises(RuntimeError, match="c1 has ended, it takes no more output"):
            await printing


async def test_who_waits_for_room_goes_on_once_there_is_some(context: CommandContext, window: OutputWindow) -> None:
    printing = await waiting_for_room(context)
    window.acknowledge(window.written)
    context.notify_room()
    async with asyncio.timeout(SECONDS):
        await printing
    assert window.written == DEFAULT_OUTPUT_LIMIT + 4


async def test_output_after_the_end_is_refused(context: CommandContext) -> None:
    context.end()
    with pytest.raises(RuntimeError, match="takes no more output"):
        await context.output("late")


async def test_a_handler_learns_which_params_are_secret(window: OutputWindow) -> None:
    assignment = gateway.Assignment(command=command_pb2.Command(secret_params=["/password"]))
    assert CommandContext(assignment, window, CurrentSession()).secret_params == ("/password",)
