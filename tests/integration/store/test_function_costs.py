"""What the functions cost: the commands that each runs inside Valkey for a batch of commands.

Each row of COMMANDS_INSIDE is one call for BATCH commands of one agent, without output, retries or idempotency keys.
A number that grows with the batch is a cost of each command. If a change of a function needs more, change the table
with it, and say why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from distributor.model.delivery import ClaimRequest, Progress
from distributor.model.requester import Requester
from distributor.store.connections import Reads
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion

BATCH: Final = 100
MAX_CONTROL: Final = 4

COMMANDS_INSIDE: Final[dict[str, dict[str, int]]] = {
    "enqueue": {
        "time": 1,
        "hmget": 1,  # the session of the agent
        "exists": 1,  # emergency stops
        "zcard": 2,  # how many wait for it: ready, control
        "scard": 1,  # and delayed
        "hset": BATCH,  # status
        "mset": 1,  # the commands, and that the agent has them
        "zadd": 4,  # one per index: commands of the agent, queued, deadlines, ready
        "xadd": 1,
    },
    "claim": {
        "time": 1,
        "hmget": 1 + BATCH,  # the session; what each claim is decided by
        "exists": 1,  # emergency stops
        "zpopmin": 2,  # control, ready
        "mget": 1,
        "hset": BATCH,
        "zrem": 1,  # queued
        "zadd": 2,  # assigned, deadlines
        "sadd": 1,  # commands that the agent was given
        "xadd": 1,
    },
    "finish": {
        "time": 1,
        "hmget": BATCH,
        "hset": BATCH,
        "rename": BATCH,  # from its live name
        "set": BATCH,  # the result
        "zrem": 2,  # assigned, deadlines
        "zadd": 1,  # completed
        "srem": 1,  # commands that the agent was given
        "rpush": 1,  # the order in which to forget them
        "xadd": 1,
    },
}

FOR_A_CALLER: Final[dict[str, dict[str, int]]] = {
    "enqueue": {"scard": 1, "sadd": 1},  # how many the caller has, and that it has these
    "claim": {},
    "finish": {"srem": 1},  # the caller has them no more
}
"""What is added for commands of a known caller whose number is limited."""

PROGRESS_INSIDE: Final[dict[str, int]] = {
    "time": 1,
    "hmget": 2 * BATCH,  # the second for the time limit
    "hset": BATCH,
    "zadd": 1,  # deadlines
    "xadd": 1,
}

OUTSIDE: Final = frozenset({"fcall", "info", "config|resetstat"})


async def commands_inside(connection: Reads, call: Callable[[], Awaitable[object]]) -> dict[str, int]:
    """How often each command ran inside one function call."""
    await connection.call("CONFIG", "RESETSTAT")
    await call()
    text = (await connection.call("INFO", "commandstats")).decode()
    counts = {}
    for line in text.splitlines():
        if line.startswith("cmdstat_"):
            name, _, values = line.removeprefix("cmdstat_").partition(":")
            counts[name] = int(dict(value.split("=") for value in values.split(","))["calls"])
    assert counts["fcall"] == 1
    return {name: calls for name, calls in counts.items() if name not in OUTSIDE}


async def test_commands_inside_the_functions_that_every_command_passes(world: StoreWorld) -> None:
    await world.attach()
    new = [world.new() for _ in range(BATCH)]
    reports = [completion(command.command_id) for command in new]
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "enqueue": lambda: world.store.enqueue(new),
        "claim": lambda: world.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], BATCH, LEASE, MAX_CONTROL)]),
        "finish": lambda: world.store.finish(reports),
    }
    for name, call in calls.items():
        assert await commands_inside(world.connection, call) == COMMANDS_INSIDE[name], name


async def test_what_the_number_of_commands_of_a_caller_costs(world: StoreWorld) -> None:
    limited = world.under(caller_commands=BATCH)
    await limited.attach()
    new = [limited.new(requested_by=Requester("user", "ada")) for _ in range(BATCH)]
    reports = [completion(command.command_id) for command in new]
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "enqueue": lambda: limited.store.enqueue(new),
        "claim": lambda: limited.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], BATCH, LEASE, MAX_CONTROL)]),
        "finish": lambda: limited.store.finish(reports),
    }
    for name, call in calls.items():
        expected = Counter(COMMANDS_INSIDE[name]) + Counter(FOR_A_CALLER[name])
        assert await commands_inside(world.connection, call) == expected, name


async def test_commands_inside_progress(world: StoreWorld) -> None:
    """For commands that do not end at once."""
    await world.attach()
    await world.enqueue(*(world.new() for _ in range(BATCH)))
    claim = await world.claim(max_commands=BATCH)
    started = [Progress(command.command_id, AGENT, LEASE, 1, 2, 3) for command in claim.commands]
    assert await commands_inside(world.connection, lambda: world.store.progress(started)) == PROGRESS_INSIDE


def test_the_table_holds_the_rules_for_lean_functions() -> None:
    """No expiry of its own for a command, at most three writes of its hash, one read of it by each function."""
    rows = COMMANDS_INSIDE.values()
    assert sum(row.get("hset", 0) for row in rows) <= 3 * BATCH
    assert all(row["hmget"] <= 1 + BATCH for row in rows)
    assert not any(name in row for row in rows for name in ("pexpire", "expire", "hgetall", "hget", "zrange"))
    assert all(row["xadd"] == 1 for row in rows)
