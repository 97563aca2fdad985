"""Where a dashboard is told to resume from: never after something that it has yet to be told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.output_pump import OutputPumps
from distributor.bridge.store_view import change_of
from distributor.model.command import CommandState, Receipts
from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal
from distributor.model.lifecycle import CommandStatus
from tests.support.dashboard_credentials import credential
from tests.support.waiting import until


def change(command_id: str, position: str, status: CommandStatus = CommandStatus.COMPLETED) -> Change:
    return change_of(CommandState(command_id, "a", "T", 50, status, 1, Receipts()), None, position)


def connected(messages: int = 256) -> Dashboard:
    dashboard = Dashboard("d", credential(), DashboardOutbox(messages))
    dashboard.set_resume_position("1-0")
    return dashboard


def positions(dashboard: Dashboard) -> list[str | None]:
    """Those of the states that wait to be sent."""
    texts = [dashboard.text_of(entry) for entry in iter(dashboard.outbox.take, None)]
    return [message.get("position") for message in map(json.loads, texts) if message["type"] == "command:status"]


class NoOutput:
    """The OutputLog port over nothing, once the test lets it answer."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | OutputRefusal]:
        raise AssertionError("a pump only reads")

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[OutputChunk]:
        await self.answers.wait()
        return []


async def test_while_an_ending_waits_for_its_output() -> None:
    log, dashboard = NoOutput(), connected()
    pumps = OutputPumps(log)
    try:
        pumps.follow(dashboard, "followed", 0)
        assert pumps.end(dashboard, "followed", change("followed", "2-0"))
        dashboard.send_change(change("other", "3-0"))
        assert dashboard.resume_position("3-0") == "1-0"
        log.answers.set()
        await until(lambda: not pumps.follows(dashboard, "followed"))
        dashboard.send_change(change("another", "4-0"))
    finally:
        await pumps.stop()
    assert positions(dashboard) == [None, "2-0", "4-0"]
    assert dashboard.resume_position("5-0") == "5-0"


@pytest.mark.parametrize("unfollow", [True, False])
async def test_while_an_ending_waits_that_is_followed_anew(unfollow: bool) -> None:
    log, dashboard = NoOutput(), connected()
    pumps = OutputPumps(log)
    try:
        pumps.follow(dashboard, "followed", 0)
        pumps.end(dashboard, "followed", change("followed", "2-0"))
        pumps.follow(dashboard, "followed", 0)
        assert dashboard.resume_position("3-0") == "1-0"
        if unfollow:
            pumps.unfollow(dashboard, "followed")
        log.answers.set()
        await until(lambda: not pumps.follows(dashboard, "followed"))
    finally:
        await pumps.stop()
    assert positions(dashboard) == ["2-0"]


async def test_an_ending_that_is_read_while_it_waits_is_told_once() -> None:
    log, dashboard = NoOutput(), connected()
    pumps = OutputPumps(log)
    try:
        pumps.follow(dashboard, "followed", 0)
        pumps.end(dashboard, "followed", change("followed", "2-0"))
        pumps.end(dashboard, "followed", change("followed", ""))
        log.answers.set()
        await until(lambda: not pumps.follows(dashboard, "followed"))
    finally:
        await pumps.stop()
    assert positions(dashboard) == ["2-0"]


async def test_while_states_are_left_out() -> None:
    dashboard = connected(messages=4)
    for number in range(2, 7):
        dashboard.send_change(change(f"c{number}", f"{number}-0", CommandStatus.ASSIGNED))
    assert dashboard.outbox.lost
    assert dashboard.resume_position("6-0") == "5-0"
    assert positions(dashboard) == ["2-0", "3-0", "4-0", "5-0"]


async def test_until_it_has_been_told_anew_what_it_missed() -> None:
    dashboard = connected()
    dashboard.resync("interrupted")
    dashboard.send_change(change("c", "2-0"))
    assert dashboard.resume_position("2-0") == "1-0"
    dashboard.resync_needed.clear()
    dashboard.snapshot_sent()
    assert dashboard.resume_position("2-0") == "2-0"
    dashboard.resync("interrupted")
    dashboard.snapshot_sent()
    assert dashboard.resume_position("3-0") == "2-0", "it was resync_needed again meanwhile"


async def test_while_changes_are_held_only_those_before_them() -> None:
    dashboard = connected()
    dashboard.hold()
    dashboard.takes(change("c", "3-0"))
    assert dashboard.resume_position("2-0") == "2-0"
    assert dashboard.resume_position("3-0") == "2-0"
    dashboard.takes(change("read", ""))
    assert dashboard.resume_position("2-1") == "2-0"
