"""The index check: whatever key, field or entry is lost or misplaced, commands fit their indexes and end."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any, Final

import pytest

from distributor.model.command import Reason
from distributor.model.control import PING
from distributor.model.delivery import ClaimRequest, Progress, Release
from distributor.model.lifecycle import CommandStatus
from distributor.model.repair import Repair, RepairKind
from distributor.model.requester import Requester
from distributor.store import keys
from distributor.store.index_checker import ENTRIES_AT_ONCE, KEYS_AT_ONCE, Found, ValkeyIndexChecker
from tests.support.shard_view import to_shard
from tests.support.store_world import AGENT, LEASE, Dump, StoreWorld, completion

NOT_REPAIRED: Final = (
    "cmd:result:",
    "cmd:late:",
    "events",
    "commands:index_check",
    "command:output:",
    "command:idempotency:",
)
"""What cannot be made again, or is not of commands."""
OTHER: Final = "other-agent"
ADA: Final = Requester("user", "ada", "", "10.0.0.1")
BRIDGE: Final = Requester("service", "bridge", "bob", "10.0.0.2")
SHARED: Final = {keys.DEADLINES, keys.ENDED, keys.AGENTS, *(keys.BY_STATUS.format(status=s) for s in CommandStatus)}


async def filled(world: StoreWorld) -> dict[str, str]:
    """Commands in all states, by what they are."""
    await world.attach()
    terminal = [status for status in CommandStatus if status.terminal]
    ids = {f"ended {status}": await world.ended(status, requested_by=ADA) for status in terminal}
    ids["delayed"] = await world.assigned(requested_by=ADA)
    await world.store.release([Release(ids["delayed"], AGENT, LEASE, 60_000, Reason("busy", "?"), refused=True)])
    ids["started"] = await world.acknowledged(max_runs=2, requested_by=BRIDGE)
    await world.store.progress([Progress(ids["started"], AGENT, LEASE, 1, 2, 3)])
    await world.print_output(ids["started"], 0, b"out")
    ids["acknowledged"] = await world.acknowledged(params_summary="a=b")
    ids["assigned"] = await world.assigned()
    ids["given up"] = await world.assigned()
    await world.pass_deadline(ids["given up"])
    await world.store.due([60_000])
    ids["cancelled"] = await world.assigned()
    await world.store.cancel(ids["cancelled"], "enough")
    ids["queued"] = await world.queued(priority=80, requested_by=ADA)
    ids["control"] = await world.queued(kind=PING, requested_by=ADA)
    await world.attach(OTHER)
    ids["of another"] = await world.queued(OTHER)
    return ids


async def checked(world: StoreWorld) -> list[RepairKind]:
    return [repair.kind async for repairs in world.index_checker.sweep() for repair in repairs]


def plain(dump: Dump) -> dict[str, object]:
    """The dump without what is not repaired and without times."""
    return {
        name: sorted(content) if kind in ("zset", "set", "list") else content
        for name, (kind, content, _) in dump.items()
        if not name.startswith(NOT_REPAIRED)
    }


def check_consistent(dump: Dump) -> None:
    """Every index holds what the records say, and nothing else: the truth, built again from the records alone."""
    records = {
        name.removeprefix("command:status:"): content
        for name, (_, content, _) in dump.items()
        if name.startswith("command:status:")
    }

    def held(name: str) -> set[str]:
        return set(dump[name][1]) if name in dump else set()

    agents = {record["agent_id"] for record in records.values()}
    for status in CommandStatus:
        assert held(keys.BY_STATUS.format(status=status)) == {c for c, r in records.items() if r["status"] == status}
    live = {c for c, r in records.items() if r["status"] in ("queued", "assigned")}
    assert held(keys.DEADLINES) == live
    # What has no record does no harm there, and goes when it is to be forgotten.
    assert held(keys.ENDED) & records.keys() == records.keys() - live
    for agent_id in agents:
        mine = {c: r for c, r in records.items() if r["agent_id"] == agent_id}
        assert held(keys.AGENT_COMMANDS.format(agent_id=agent_id)) == mine.keys()
        assert held(keys.ASSIGNED.format(agent_id=agent_id)) == {
            c for c, r in mine.items() if r["status"] == "assigned"
        }
        queues = [held(key.format(agent_id=agent_id)) for key in (keys.READY, keys.CONTROL, keys.DELAYED)]
        assert sum(map(len, queues)) == len(set().union(*queues))
        assert set().union(*queues) == {c for c, r in mine.items() if r["status"] == "queued"}
    for principal, part in (("user:ada", "\tada\t"), ("user:bob", "\tbob\t")):
        theirs = {c for c in live if part in records[c].get("requested_by", "")}
        assert held(keys.CALLER_COMMANDS.format(principal=principal)) == theirs
    for name in dump:
        for template in (keys.COMMAND, keys.OUTPUT):
            prefix = template.partition("{")[0]
            if name.startswith(prefix):
                assert name.removeprefix(prefix) in records
        if ":command:list:" in name:
            assert name.rpartition(":")[2] in records
    for command_id in live:
        assert keys.AGENT_COMMAND.format(agent_id=records[command_id]["agent_id"], command_id=command_id) in dump


async def run_to_the_end(world: StoreWorld) -> None:
    """Its agents run what they are given and come back with what they have; deadlines pass."""
    for agent_id in (AGENT, OTHER):
        await world.attach(agent_id)
    for _ in range(8):
        live = await world.connection.call("ZRANGE", keys.DEADLINES, 0, -1)
        if not live:
            return
        for command_id in live:
            await world.connection.call("ZADD", keys.DEADLINES, 1, command_id)
        await world.store.due([0])
        for agent_id in (AGENT, OTHER):
            (claim,) = await world.store.claim([ClaimRequest(agent_id, world.epochs[agent_id], 20, "lease9", 4)])
            reports = [completion(c.command_id, agent_id=agent_id, lease_id="lease9") for c in claim.commands]
            await world.store.finish(reports)
    pytest.fail(f"these never ended: {live}")


async def check_repaired(world: StoreWorld) -> None:
    dump = await world.dump()
    check_consistent(dump)
    assert await checked(world) == [], "a second sweep finds nothing"
    assert plain(await world.dump()) == plain(dump)
    ids = [name.rpartition(":")[2] for name in dump if name.startswith("command:status:")]
    await run_to_the_end(world)
    for state in await world.reader.states(ids):
        assert state is not None
        assert state.status.terminal
    check_consistent(await world.dump())


async def test_it_changes_nothing_that_fits_together(world: StoreWorld) -> None:
    await filled(world)
    before = await world.dump()
    assert await checked(world) == []
    after = await world.dump()
    after.pop(keys.INDEX_CHECK)
    assert after == before
    check_consistent(after)
    assert await checked(world) == []


async def test_what_fits_together_is_only_read(world: StoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that repairs reads everything about a command."""
    await filled(world)
    called: list[str] = []
    call = world.functions.call

    async def recorded(name: str, *arguments: Any) -> Any:
        called.append(name)
        return await call(name, *arguments)

    monkeypatch.setattr(world.functions, "call", recorded)
    assert await checked(world) == []
    assert called == []


async def test_no_step_takes_long(world: StoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else waits for a call of Valkey, so each looks at few keys or entries."""
    await world.attach()
    store = world.under(queue_limit=10_000).store
    for _ in range(10):
        await store.enqueue([world.new() for _ in range(200)])
    names: Counter[str] = Counter()
    read = world.functions.read

    async def recorded(name: str, *arguments: Any) -> Any:
        names[name] += 1
        return await read(name, *arguments)

    monkeypatch.setattr(world.functions, "read", recorded)
    assert await checked(world) == []
    # Three keys and four entries for each command.
    assert names["inspect_keys"] >= 6_000 / KEYS_AT_ONCE / 2
    assert names["inspect_index"] >= 8_000 / ENTRIES_AT_ONCE / 2


async def test_every_key_deleted_one_by_one(world: StoreWorld) -> None:
    await filled(world)
    names = [name for name in plain(await world.dump()) if not name.endswith(":session") and name != keys.AGENTS]
    assert len(names) > 40
    for name in names:
        await world.connection.call("FLUSHALL")
        ids = await filled(world)
        # Ids are those of another run: the n-th key of the same name without its id.
        (target,) = await same_key(world, names, name, ids)
        await world.connection.call("DEL", target)
        kinds = await checked(world)
        assert kinds or await is_not_needed(world, target), name
        await check_repaired(world)


async def same_key(world: StoreWorld, names: list[str], name: str, ids: dict[str, str]) -> list[str]:
    now = [other for other in plain(await world.dump()) if not other.endswith(":session") and other != keys.AGENTS]
    return [sorted(now)[sorted(names).index(name)]]


async def is_not_needed(world: StoreWorld, name: str) -> bool:
    """The copy of an ended command, and of one that its agent has, cannot be made again."""
    status = (await world.state(name.rpartition(":")[2])).status
    return status.terminal if ":command:list:" in name else status is CommandStatus.ASSIGNED


@pytest.mark.parametrize("which", ["queued", "control", "delayed", "assigned", "started", "given up", "ended failed"])
async def test_every_field_of_a_record_deleted_one_by_one(world: StoreWorld, which: str) -> None:
    ids = await filled(world)
    fields = sorted(await world.hash(ids[which]))
    for field in fields:
        await world.connection.call("FLUSHALL")
        ids = await filled(world)
        before = await world.state(ids[which])
        await world.connection.call("HDEL", keys.STATUS.format(command_id=ids[which]), field)
        await checked(world)
        assert (await world.state(ids[which])).status is before.status, field
        await check_repaired(world)


async def test_every_entry_of_every_index_deleted_one_by_one(world: StoreWorld) -> None:
    await filled(world)
    before = await world.dump()
    commands = {"zset": "ZREM", "set": "SREM", "list": "LREM"}
    entries = [
        (kind, name, entry)
        for name, (kind, content, _) in before.items()
        if kind in commands and not name.startswith(NOT_REPAIRED)
        for entry in content
    ]
    assert len(entries) > 40
    for kind, name, entry in entries:
        await world.connection.call(commands[kind], name, *([0] if kind == "list" else []), entry)
        assert len(await checked(world)) == 1, (name, entry)
        check_consistent(await world.dump())
    await check_repaired(world)


@pytest.mark.parametrize("seed", range(12))
async def test_any_damage_at_once(world: StoreWorld, seed: int) -> None:
    rng = Random(seed)
    ids = await filled(world)
    dump = {name: value for name, value in (await world.dump()).items() if not name.startswith(NOT_REPAIRED)}
    for _ in range(rng.randint(2, 12)):
        name = rng.choice(sorted(name for name in dump if not name.endswith(":session")))
        kind, content, _ = dump[name]
        chosen, other = rng.choice(list(ids.values())), rng.choice(list(ids.values()))
        match kind:
            case "hash":
                await world.connection.call("HDEL", name, rng.choice(sorted(set(content) - {"agent_id"})))
            case "zset" if rng.random() < 0.5:
                if name != keys.AGENTS:
                    await world.connection.call("ZADD", name, 5, chosen)
            case "zset":
                await world.connection.call("ZREM", name, chosen, other)
            case "set" if rng.random() < 0.5:
                await world.connection.call("SADD", name, chosen)
            case "list":
                await world.connection.call("LREM", name, 0, chosen)
            case _:
                await world.connection.call("DEL", name)
    await checked(world)
    await check_repaired(world)


async def test_what_has_no_record_goes(world: StoreWorld) -> None:
    ids = await filled(world)
    gone = [ids["queued"], ids["started"], ids["ended failed"]]
    for command_id in gone:
        await world.connection.call("DEL", keys.STATUS.format(command_id=command_id))
    kinds = set(await checked(world))
    assert kinds == {RepairKind.INDEX_WITHOUT_RECORD, RepairKind.KEY_WITHOUT_RECORD}
    left = [name for name in await world.dump() for command_id in gone if command_id in name]
    assert all(name.startswith("cmd:result:") for name in left)


async def test_a_queued_command_that_is_lost_fails(world: StoreWorld) -> None:
    ids = await filled(world)
    await world.connection.call("DEL", keys.COMMAND.format(command_id=ids["queued"]))
    assert await checked(world) == [RepairKind.COMMAND_LOST]
    details = await world.details(ids["queued"])
    assert (details.state.status, details.state.reason.code) == (CommandStatus.FAILED, "command_lost")
    assert details.encoded is None
    (result,) = await world.reader.results([ids["queued"]])
    assert result is not None


async def test_a_command_with_a_status_of_a_later_version_is_left_alone(world: StoreWorld) -> None:
    """During an upgrade, servers of two versions share a Valkey. To queue it again would run it."""
    ids = await filled(world)
    for which in ("queued", "started", "ended completed"):
        command_id = ids[which]
        status = (await world.hash(command_id))["status"]
        await world.set_field(command_id, "status", "paused")
        await world.connection.call("ZREM", keys.BY_STATUS.format(status=status), command_id)
        await world.connection.call("ZADD", keys.BY_STATUS.format(status="paused"), 1, command_id)
        await world.connection.call("HDEL", keys.STATUS.format(command_id=command_id), "rank", "attempt")
    await world.connection.call("ZREM", keys.READY.format(agent_id=AGENT), ids["queued"])
    before = await world.dump()
    assert await checked(world) == []
    assert plain(await world.dump()) == plain(before)


@pytest.mark.parametrize(
    "key",
    [
        keys.READY.format(agent_id="zzz"),
        keys.ASSIGNED.format(agent_id="zzz"),
        keys.STATUS.format(command_id="zzz"),
        keys.OUTPUT.format(command_id="zzz"),
        keys.SESSION.format(agent_id="zzz"),
        keys.ENDED,
        keys.READY.format(agent_id=OTHER),
        keys.BY_STATUS.format(status=CommandStatus.TIMEOUT),
    ],
)
async def test_a_key_of_another_type_is_reported_and_the_rest_is_checked(world: StoreWorld, key: str) -> None:
    ids = await filled(world)
    await world.connection.call("DEL", key)
    if key == keys.OUTPUT.format(command_id="zzz"):
        await world.connection.call("HSET", key, "a", "b")
    else:
        await world.connection.call("SET", key, "of another program")
    await world.connection.call("ZREM", keys.READY.format(agent_id=AGENT), ids["queued"])
    repairs = [repair async for found in world.index_checker.sweep() for repair in found]
    assert Repair(RepairKind.WRONG_TYPE, to_shard(key, world.shard)) in repairs
    if key != keys.BY_STATUS.format(status=CommandStatus.TIMEOUT):
        assert Repair(RepairKind.QUEUED_NOT_READY, ids["queued"]) in repairs
    assert await world.index_checker.take_turn(0), "the sweep has ended"


async def test_a_session_that_is_not_listed_is(world: StoreWorld) -> None:
    await filled(world)
    await world.connection.call("DEL", keys.AGENTS)
    assert await checked(world) == [RepairKind.SESSION_NOT_LISTED] * 2
    assert await world.reader.agent_ids("", 10) == [AGENT, OTHER]


async def test_a_lost_list_of_ended_commands_is_made_again_in_order(world: StoreWorld) -> None:
    await world.attach()
    ids = []
    for _ in range(5):
        ids.append(await world.ended(CommandStatus.COMPLETED))
        await world.next_millisecond()
    await world.connection.call("DEL", keys.ENDED)
    ids.append(await world.ended(CommandStatus.FAILED))
    assert await checked(world) == [RepairKind.ENDED_NOT_LISTED] * 5
    listed = [command_id.decode() for command_id in await world.connection.call("LRANGE", keys.ENDED, 0, -1)]
    assert listed == [ids[-1], *ids[:-1]]


async def test_a_claim_wakes_for_what_is_ready_again(world: StoreWorld) -> None:
    command_id = await world.queued()
    await world.connection.call("DEL", keys.READY.format(agent_id=AGENT))
    position = await world.position()
    assert await checked(world) == [RepairKind.QUEUED_NOT_READY]
    (event,) = await world.events(position)
    assert getattr(event, "command_id", None) == command_id


async def test_replicas_take_turns(world: StoreWorld) -> None:
    assert await world.index_checker.take_turn(0)
    assert not await world.index_checker.take_turn(0), "one is sweeping"
    await checked(world)
    assert not await world.index_checker.take_turn(60_000), "it was done a moment ago"
    assert await world.index_checker.take_turn(0), "a server that has just started looks itself"
    assert 0 < await world.connection.call("PTTL", keys.INDEX_CHECK) <= 60_000, (
        "a crashed one does not keep others waiting"
    )


async def test_one_of_several_replicas_takes_a_turn(world: StoreWorld) -> None:
    await checked(world)
    checkers = [ValkeyIndexChecker(world.connections.reads, world.functions, name, world.policy) for name in "abc"]
    # Each has a connection by then, so that their steps alternate.
    await asyncio.gather(*(world.connections.reads.call("GET", keys.INDEX_CHECK) for _ in checkers))
    assert sorted(await asyncio.gather(*(checker.take_turn(0) for checker in checkers))) == [False, False, True]


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("record", keys.STATUS),
        ("key", keys.COMMAND),
        ("zset", keys.READY),
        ("set", keys.DELAYED),
        ("ended", keys.ENDED),
        ("session", keys.SESSION),
    ],
)
async def test_what_has_gone_since_it_was_found_is_no_repair(world: StoreWorld, where: str, name: str) -> None:
    gone = world.new_id()
    key = to_shard(name.format(command_id=gone, agent_id=AGENT), world.shard)
    found = Found(where, key, gone, AGENT)
    assert await world.index_checker.check([found]) == []
    assert await world.dump() == {}


async def test_beside_servers_that_work(world: StoreWorld) -> None:
    """Every change is atomic, so it finds nothing to repair, however much changes meanwhile."""
    await world.attach()
    done = asyncio.Event()

    async def work() -> None:
        while not done.is_set():
            await world.enqueue(*(world.new(max_runs=2) for _ in range(20)))
            claim = await world.claim()
            halves = claim.commands[::2], claim.commands[1::2]
            await world.store.release(
                [Release(c.command_id, AGENT, LEASE, 0, Reason("busy", "?"), refused=True) for c in halves[0]]
            )
            await world.store.finish([completion(c.command_id) for c in halves[1]])
            await world.under(retention_ms=0).store.forget("")

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        try:
            for _ in range(5):
                assert await checked(world) == []
        finally:
            done.set()
