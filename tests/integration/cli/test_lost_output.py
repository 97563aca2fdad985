"""Readers of output get every byte, or an exit code and a line that say that they did not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distributor.agent import Agent, CommandContext
from distributor.client import CommandClient, CommandRequest
from tests.support.launched_sender import run_sender
from tests.support.running_server import RunningServer, running_server
from tests.support.serving_agent import background

KEPT = 65_536
PRINTED = b"0123456789abcde\n" * 100_000


async def print_much(command: CommandContext) -> None:
    await command.output(PRINTED)


@pytest.fixture
async def small(valkey_url: str) -> AsyncIterator[RunningServer]:
    """A server that keeps little output, with an agent that prints much."""
    async with running_server(valkey_url, output_kept_bytes=KEPT) as server:
        agent = Agent("agent123", server=server.address, capacity=4)
        agent.add_handler("PRINT", print_much)
        async with background(agent.serve()):
            yield server


async def test_follow_of_one_command_gives_every_byte(small: RunningServer) -> None:
    finished = await run_sender(small.address, "--agent=agent123", "--type=PRINT", "--follow")

    assert (finished.code, finished.stdout == PRINTED) == (0, True)


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 7), (("-o", "jsonl"), 7), (("--passthrough-exit-code",), 125), (("--no-hold-output",), 7)],
)
async def test_a_reader_that_comes_too_late_is_told(small: RunningServer, options: tuple[str, ...], code: int) -> None:
    async with CommandClient(small.address) as client:
        command = (await client.queue(CommandRequest("agent123", "PRINT"))).command
        await client.wait(command.command_id)

    finished = await run_sender(small.address, "watch", command.command_id, *options)

    assert finished.code == code
    lost = len(PRINTED) - KEPT
    last = finished.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith(" bytes of output of 1 command were lost before they were read")
    assert 0 < int(last.split()[1].replace(",", "")) <= lost
