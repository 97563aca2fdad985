"""Who is covered by which commit, and what they learn if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from distributor.errors import Unavailable
from distributor.store.group_commit import GroupCommit, not_durable
from tests.support.waiting import until


class Commits:
    """Commits that end when the test says so."""

    def __init__(self, timeout_seconds: float = 30.0) -> None:
        self.groups: list[frozenset[int]] = []
        self.endings: list[asyncio.Future[None]] = []
        self.group = GroupCommit(self._commit, timeout_seconds)

    async def _commit(self, marks: frozenset[int]) -> None:
        self.groups.append(marks)
        self.endings.append(asyncio.get_running_loop().create_future())
        await self.endings[-1]

    async def begun(self, count: int) -> None:
        """Return once so many commits have begun."""
        await until(lambda: len(self.groups) == count)


@pytest.fixture
async def commits() -> AsyncIterator[Commits]:
    commits = Commits()
    yield commits
    while commits.group.latest is not None:
        await until(lambda: len(commits.endings) == len(commits.groups))
        if not commits.endings[-1].done():
            commits.endings[-1].set_result(None)
        await asyncio.sleep(0)


async def test_those_who_come_during_a_commit_are_covered_by_the_next_one(commits: Commits) -> None:
    first = commits.group.covered(1)
    await commits.begun(1)
    later = [commits.group.covered(mark) for mark in (2, 3, 2)]
    commits.endings[0].set_result(None)
    await first
    await commits.begun(2)
    assert commits.groups == [{1}, {2, 3}]
    assert not any(one.done() for one in later)
    commits.endings[1].set_result(None)
    await asyncio.gather(*later)


async def test_one_that_begins_before_the_commit_runs_still_waits_for_the_next(commits: Commits) -> None:
    first, second = commits.group.covered(1), commits.group.covered(2)
    assert first is not second
    await commits.begun(1)
    assert commits.groups == [{1}]


async def test_groups_end_in_order(commits: Commits) -> None:
    ended: list[int] = []
    for mark in range(3):
        commits.group.covered(mark).add_done_callback(lambda _, mark=mark: ended.append(mark))  # type: ignore[misc]
    await commits.begun(1)
    commits.endings[0].set_result(None)
    await commits.begun(2)
    commits.endings[1].set_result(None)
    await until(lambda: len(ended) == 3)
    assert ended == [0, 1, 2]
    assert commits.group.latest is None


@pytest.mark.parametrize(
    ("failure", "shown"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (not_durable("no replica"), "no replica"),
        (Unavailable("Valkey is away: closed", reason="STORE_UNAVAILABLE"), "Valkey is away: closed"),
        (KeyError("aof_enabled"), "aof_enabled"),
        (asyncio.CancelledError(), "the server stops"),
    ],
)
async def test_a_failure_of_any_kind_is_never_taken_for_success(
    commits: Commits, failure: BaseException, shown: str
) -> None:
    covered = commits.group.covered(1)
    later = commits.group.covered(2)
    await commits.begun(1)
    commits.endings[0].set_exception(failure)
    with pytest.raises(Unavailable, match=shown):
        await covered
    await commits.begun(2)
    commits.endings[1].set_result(None)
    await later


async def test_one_that_takes_too_long_fails_and_says_what_may_have_happened() -> None:
    commits = Commits(timeout_seconds=0.01)
    with pytest.raises(Unavailable, match=r"may or may not survive.*longer than 0\.01 s") as caught:
        await commits.group.covered(1)
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("NOT_DURABLE", 1.0)
