"""Valkey's memory for finished commands: keys of their own and their entries in indexes, without the event stream."""

from __future__ import annotations

from typing import Final

import pytest

from distributor.model.delivery import OutputPiece
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion

BATCH: Final = 20
COMMANDS: Final = 2_000


async def used_bytes(world: StoreWorld) -> int:
    info = (await world.connection.call("INFO", "memory")).decode()
    used = int(info.partition("used_memory:")[2].partition("\r")[0])
    return used - int(await world.connection.call("MEMORY", "USAGE", keys.EVENTS, "SAMPLES", 0) or 0)


async def run_commands(world: StoreWorld, count: int, line: bytes) -> None:
    for _ in range(count // BATCH):
        await world.enqueue(*(world.new(params_summary="echo hello") for _ in range(BATCH)))
        ids = [command.command_id for command in (await world.claim(max_commands=BATCH)).commands]
        await world.output.append([OutputPiece(command_id, AGENT, LEASE, 1, 0, line) for command_id in ids])
        await world.store.finish([completion(command_id, output_bytes=len(line), exit_code=0) for command_id in ids])


@pytest.mark.parametrize(("line_bytes", "at_most"), [(12, 1_800), (100, 2_000)])
async def test_a_finished_command_with_one_line_of_output(world: StoreWorld, line_bytes: int, at_most: int) -> None:
    await world.attach()
    await run_commands(world, COMMANDS // 4, b"x" * line_bytes)
    before = await used_bytes(world)
    await run_commands(world, COMMANDS, b"x" * line_bytes)
    assert (await used_bytes(world) - before) / COMMANDS < at_most
