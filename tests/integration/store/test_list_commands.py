from __future__ import annotations

import base64

import pytest

from distributor.errors import InvalidArgument
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter
from distributor.store import keys
from distributor.store.command_reader import ValkeyCommandReader
from tests.support.store_world import AGENT, StoreWorld


async def listed(world: StoreWorld, query: CommandFilter, size: int = 100) -> list[str]:
    """The ids on all pages."""
    found: list[str] = []
    cursor = ""
    for _ in range(1_000):
        page = await world.reader.page(query, cursor, size)
        assert len(page.items) <= size
        found += [state.command_id for state in page.items]
        cursor = page.next_page_token
        if not cursor:
            return found
    raise AssertionError("the list does not end")


@pytest.mark.parametrize("status", CommandStatus)
async def test_by_status(world: StoreWorld, status: CommandStatus) -> None:
    ids = await world.one_of_each()
    before = await world.dump()
    page = await world.reader.page(CommandFilter(statuses=(status,)), "", 10)
    assert page == ([await world.state(ids[status])], "")
    others = tuple(other for other in CommandStatus if other is not status)
    assert set(await listed(world, CommandFilter(statuses=others))) == set(ids.values()) - {ids[status]}
    assert await world.dump() == before


async def test_newest_first(world: StoreWorld) -> None:
    ids = [await world.queued() for _ in range(5)]
    assert await listed(world, CommandFilter()) == ids[::-1]


@pytest.mark.parametrize("size", [1, 2, 5, 100])
async def test_all_statuses_are_merged_newest_first(world: StoreWorld, size: int) -> None:
    """Also those that arrived in the same microsecond, of which each status has one."""
    ids = [await world.command(status) for status in reversed(CommandStatus) for _ in range(2)]
    earlier, same_time = ids[::2], ids[1::2]
    for command_id in same_time:
        key = keys.BY_STATUS.format(status=(await world.state(command_id)).status)
        await world.connection.call("ZADD", key, 3_000_000_000_000_000, command_id)
    newest_first = sorted(same_time, reverse=True) + sorted(earlier, reverse=True)
    assert await listed(world, CommandFilter(), size) == newest_first
    some = (CommandStatus.FAILED, CommandStatus.QUEUED, CommandStatus.ASSIGNED)
    expected = [command_id for command_id in newest_first if (await world.state(command_id)).status in some]
    assert len(expected) == 2 * len(some)
    assert await listed(world, CommandFilter(statuses=some), size) == expected


async def test_by_agent_type_and_both_with_a_status(world: StoreWorld) -> None:
    mine = await world.queued(kind="PING")
    mine_exec = await world.queued(kind="EXEC")
    other = await world.queued("other", kind="EXEC")
    queued = (CommandStatus.QUEUED,)
    assert await listed(world, CommandFilter(agent_id=AGENT)) == [mine_exec, mine]
    assert await listed(world, CommandFilter(type="EXEC")) == [other, mine_exec]
    assert await listed(world, CommandFilter(agent_id=AGENT, type="EXEC")) == [mine_exec]
    assert await listed(world, CommandFilter(agent_id=AGENT, statuses=queued)) == [mine_exec, mine]
    assert await listed(world, CommandFilter(agent_id=AGENT, statuses=(CommandStatus.FAILED,))) == []
    assert await listed(world, CommandFilter(agent_id="nobody")) == []


async def test_whichever_index_is_the_smaller(world: StoreWorld) -> None:
    ended = await world.ended(CommandStatus.COMPLETED)
    for _ in range(3):
        await world.queued()
    mine_queued = [await world.queued("other") for _ in range(2)]
    completed = CommandFilter(agent_id=AGENT, statuses=(CommandStatus.COMPLETED,))
    assert await listed(world, completed) == [ended]
    assert await listed(world, CommandFilter(agent_id="other", statuses=(CommandStatus.QUEUED,))) == mine_queued[::-1]


async def test_by_time_lower_inclusive_upper_exclusive(world: StoreWorld) -> None:
    ids = [await world.queued() for _ in range(4)]
    for place, command_id in enumerate(ids):
        await world.connection.call("ZADD", keys.BY_STATUS.format(status="queued"), (1_000 + place) * 1_000, command_id)
    assert await listed(world, CommandFilter(queued_after_ms=1_001)) == ids[:0:-1]
    assert await listed(world, CommandFilter(queued_before_ms=1_002)) == ids[1::-1]
    assert await listed(world, CommandFilter(queued_after_ms=1_001, queued_before_ms=1_003), size=1) == ids[2:0:-1]
    assert await listed(world, CommandFilter(queued_after_ms=1_003, queued_before_ms=1_001)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11])
async def test_pages_cover_everything_once(world: StoreWorld, size: int) -> None:
    """Also commands that arrived in the same microsecond."""
    ids = [await world.queued() for _ in range(10)]
    for command_id in ids:
        await world.connection.call("ZADD", keys.BY_STATUS.format(status="queued"), 5_000_000, command_id)
    assert await listed(world, CommandFilter(), size) == sorted(ids, reverse=True)


async def test_pages_of_a_few_among_many(world: StoreWorld) -> None:
    """A bounded number is looked at for a page, so some pages are short, or empty, and yet have a next one."""
    world.reader = ValkeyCommandReader(
        world.connection, world.functions, world.policy.offline_after_ms, max_scanned_per_page=4
    )
    wanted = []
    for place in range(21):
        command_id = await world.queued(kind="RARE" if place % 7 == 0 else "PING")
        if place % 7 == 0:
            wanted.append(command_id)
    page = await world.reader.page(CommandFilter(type="RARE"), "", 2)
    assert page.items == []
    assert page.next_page_token
    assert await listed(world, CommandFilter(type="RARE"), 2) == wanted[::-1]


async def test_commands_that_arrive_meanwhile_do_not_disturb_the_pages(world: StoreWorld) -> None:
    ids = [await world.queued() for _ in range(6)]
    found: list[str] = []
    cursor = ""
    for _ in range(3):
        page = await world.reader.page(CommandFilter(), cursor, 2)
        found += [state.command_id for state in page.items]
        cursor = page.next_page_token
        await world.queued()
    assert found == ids[::-1]
    assert cursor == ""


async def test_the_times_of_a_query_may_move_from_page_to_page(world: StoreWorld) -> None:
    ids = [await world.queued() for _ in range(2)]
    first = await world.reader.page(CommandFilter(queued_after_ms=1), "", 1)
    second = await world.reader.page(CommandFilter(queued_after_ms=2), first.next_page_token, 1)
    assert [state.command_id for state in (*first.items, *second.items)] == ids[::-1]


async def test_a_command_that_was_forgotten_between_index_and_row(world: StoreWorld) -> None:
    gone, stays = await world.queued(), await world.queued()
    await world.connection.call("DEL", keys.STATUS.format(command_id=gone))
    assert await listed(world, CommandFilter()) == [stays]


def token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "not base64!",
        "é",
        "====",
        token(" "),
        token("1"),
        token("1 2 3"),
        token("id 1"),
        token("1_0 id"),
        token("-1 id"),
        token("nan id"),
        token("+inf id"),
        token("\n1 id"),
        token("é id"),
        token("1 é"),
        base64.urlsafe_b64encode(b"\xff\xff 1").decode(),
    ],
)
async def test_a_malformed_token(world: StoreWorld, cursor: str) -> None:
    await world.queued()
    with pytest.raises(InvalidArgument) as caught:
        await world.reader.page(CommandFilter(), cursor, 10)
    assert (caught.value.field, caught.value.reason) == ("page_token", "INVALID_PAGE_TOKEN")
