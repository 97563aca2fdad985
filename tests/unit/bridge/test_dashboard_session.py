"""One session over a peer in memory, which reads and writes as the test says."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.command_calls import CommandCalls
from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.dashboard_session import (
    CloseConnection,
    DashboardLimits,
    DashboardSession,
    PeerGone,
    SessionServices,
    serve_dashboard,
)
from distributor.bridge.requests import Connect, Topics
from distributor.client import CommandClient
from distributor.identity.roles import Role
from distributor.model.command import CommandState, Receipts
from distributor.model.lifecycle import CommandStatus
from distributor.tasks import stop_tasks
from tests.support.dashboard_credentials import credential, credential_check
from tests.support.token_issuer import signed
from tests.support.waiting import PATIENCE_SECONDS, until

PING = json.dumps({"type": "ping", "version": "1.0.0"})
CONNECT = Connect("token", Topics(), None)


class Peer:
    """Says what it is given, then nothing; takes messages as fast as the test lets it."""

    address = "127.0.0.1"
    session_token = ""

    def __init__(self, says: Iterable[str] = ()) -> None:
        self._says: Iterator[str] = iter(says)
        self.said = 0
        self.heard: list[str] = []
        self.reads = asyncio.Event()
        self.gone = False

    async def receive(self) -> str:
        await asyncio.sleep(0)
        for text in self._says:
            self.said += 1
            return text
        if self.gone:
            raise PeerGone
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, text: str) -> None:
        await self.reads.wait()
        self.heard.append(text)


class SnapshotSync:
    """Tells nothing, or what the test wants at the beginning."""

    def __init__(self, begin: Callable[[Dashboard], None] = lambda _: None) -> None:
        self._begin = begin
        self.anew_for: asyncio.Queue[str] = asyncio.Queue()
        self.dropped = False

    async def connect(self, dashboard: Dashboard, connect: Connect) -> None:
        self._begin(dashboard)

    async def resync(self, dashboard: Dashboard, reason: str) -> None:
        self.anew_for.put_nowait(reason)

    def drop(self, dashboard: Dashboard) -> None:
        self.dropped = True


def session(peer: Peer, snapshots: SnapshotSync, slow_close: float = 10.0) -> tuple[Dashboard, Awaitable[None]]:
    hub = SimpleNamespace(dashboards=set(), delivered_until="1-0")
    limits = DashboardLimits(5.0, 131_072, slow_close, 16, 1_048_576)
    services = SessionServices(*([cast(Any, None)] * 8))._replace(
        credentials=credential_check(),
        calls=CommandCalls(CommandClient("127.0.0.1:1")),
        hub=cast(Any, hub),
        snapshots=cast(Any, snapshots),
        metrics=BridgeMetrics(),
        limits=limits,
    )
    dashboard = Dashboard("id", credential(Role.VIEWER), DashboardOutbox(limits.queue_messages, limits.queue_bytes))
    return dashboard, DashboardSession(peer, dashboard, services).run(CONNECT)


def ended(number: int) -> Change:
    state = CommandState(f"c{number}", "a", "T", 50, CommandStatus.COMPLETED, 1, Receipts())
    return Change("1-0", state, f"ended {number}")


async def test_who_asks_faster_than_it_reads_is_not_listened_to() -> None:
    peer, snapshots = Peer(itertools.repeat(PING)), SnapshotSync()
    dashboard, running = session(peer, snapshots, slow_close=0.2)
    with pytest.raises(CloseConnection) as closing:
        await running
    assert closing.value.code == 1013
    assert peer.said < 20
    assert len(dashboard.outbox) < 16
    assert snapshots.dropped


async def test_who_does_not_read_but_has_little_to_read_stays() -> None:
    peer, snapshots = Peer([PING]), SnapshotSync()
    _, running = session(peer, snapshots, slow_close=0.02)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await running


class SlowPeer(Peer):
    """Asks without end, and takes `seconds` for each message that it is sent."""

    def __init__(self, seconds: float) -> None:
        super().__init__(itertools.repeat(PING))
        self._seconds = seconds

    async def send(self, text: str) -> None:
        await asyncio.sleep(self._seconds)
        self.heard.append(text)


async def test_who_reads_a_message_now_and_then_but_stays_full_is_parted_from() -> None:
    # Four are read until there is room, which takes longer than it may; the first of them long before that.
    peer = SlowPeer(0.35)
    _, running = session(peer, SnapshotSync(), slow_close=1.0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(CloseConnection, match="full for 1 s") as closing:
            await running
    assert closing.value.code == 1013
    assert peer.heard, "it did read"


async def test_who_empties_half_of_its_queue_in_time_stays() -> None:
    peer = SlowPeer(0.01)
    _, running = session(peer, SnapshotSync(), slow_close=1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.5):
            await running
    assert len(peer.heard) > 16


async def test_far_more_endings_than_the_queue_holds() -> None:
    def tell_many(dashboard: Dashboard) -> None:
        for number in range(70):
            dashboard.send_change(ended(number))

    _, running = session(Peer(), SnapshotSync(tell_many))
    with pytest.raises(CloseConnection, match="exceeds its hard limit") as closing:
        await running
    assert closing.value.code == 1013


async def test_what_was_left_out_is_told_anew_once_there_is_room() -> None:
    def tell_many(dashboard: Dashboard) -> None:
        for number in range(30):
            dashboard.send_agent(f"agent-{number}", "status")

    peer, snapshots = Peer(), SnapshotSync(tell_many)
    _, running = session(peer, snapshots)
    task = asyncio.ensure_future(running)
    while len(peer.heard) < 16:
        assert snapshots.anew_for.empty()
        peer.reads.set()
        await asyncio.sleep(0)
    assert await snapshots.anew_for.get() == "slow"
    task.cancel()
    await asyncio.wait([task])


async def test_everything_is_let_go_when_the_dashboard_goes() -> None:
    peer, snapshots = Peer([PING]), SnapshotSync()
    peer.gone = True
    _, running = session(peer, snapshots)
    with pytest.raises(PeerGone):
        await running
    assert snapshots.dropped


class TimedOutPeer(Peer):
    """Its network times out, as a socket may."""

    async def receive(self) -> str:
        raise TimeoutError("the network")


async def test_a_timeout_of_something_else_is_not_taken_for_an_expired_token() -> None:
    _, running = session(TimedOutPeer(), SnapshotSync())
    with pytest.raises(TimeoutError, match="the network"):
        await running


async def test_a_timeout_of_something_else_is_not_taken_for_a_late_introduction() -> None:
    services = SessionServices(*([cast(Any, None)] * 8))._replace(
        limits=DashboardLimits(5.0, 131_072, 10.0, 16, 1_048_576)
    )
    with pytest.raises(TimeoutError, match="the network"):
        await serve_dashboard(TimedOutPeer(), services)


@pytest.mark.parametrize(("told_all", "position"), [(True, "1-0"), (False, "0-1")])
async def test_a_pong_has_the_position_up_to_which_everything_was_told(told_all: bool, position: str) -> None:
    def begin(dashboard: Dashboard) -> None:
        dashboard.set_resume_position("0-1")
        if not told_all:
            dashboard.expect_ending("c")

    peer = Peer([PING])
    peer.reads.set()
    _, running = session(peer, SnapshotSync(begin))
    task = asyncio.ensure_future(running)
    await until(lambda: bool(peer.heard))
    await stop_tasks([task])
    assert json.loads(peer.heard[0])["position"] == position


GOOD = "GOOD"
"""Stands for a token that is made when the test runs."""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (json.dumps({"type": "command:request", "version": "1.0.0", "agentId": "a", "command": "x"}), "must be dash"),
        (json.dumps({"type": "command:request", "command": "echo " + "x" * 600_000}), "over 131,072 bytes"),
        (json.dumps({"type": "dashboard:connect", "token": GOOD, "x": "\u20ac" * 50_000}), "over 131,072 bytes"),
        (json.dumps({"type": "dashboard:connect", "token": "bad", "subscribe": 7}), "token is not a JWT"),
        (json.dumps({"type": "dashboard:connect", "version": "1.0.0"}), "token is required"),
        (json.dumps({"type": ["dashboard:connect"]}), "must be dashboard:connect"),
        ("{", "not valid JSON"),
        ("[" * 130_000, "commas and opening brackets"),
        ("", "not valid JSON"),
    ],
)
async def test_nothing_of_a_stranger_is_interpreted(text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the first message is, its fields are parsed only once its token was verified; there is no second try."""

    def parse(_: object) -> None:
        raise AssertionError("parsed before its sender was known")

    monkeypatch.setattr("distributor.bridge.requests.parse", parse)
    peer = Peer([text.replace(GOOD, signed()), PING])
    with pytest.raises(CloseConnection, match=why) as closing:
        await serve_dashboard(peer, strangers())
    assert (closing.value.code, peer.said, peer.heard) == (1008, 1, [])


async def test_a_known_sender_is_told_which_field_was_wrong() -> None:
    text = json.dumps({"type": "dashboard:connect", "version": "1.0.0", "token": GOOD, "subscribe": {"agents": 7}})
    with pytest.raises(CloseConnection, match="agents must be a list") as closing:
        await serve_dashboard(Peer([text.replace(GOOD, signed())]), strangers())
    assert closing.value.code == 1008


@pytest.mark.parametrize("type_", ["command:request", "command:retry", "command:interrupt"])
async def test_the_role_is_checked_before_the_rest_of_a_change_is_parsed(type_: str) -> None:
    peer = Peer([json.dumps({"type": type_, "command": 7, "commandId": 7, "requestId": "r"})])
    peer.reads.set()
    _, running = session(peer, SnapshotSync())
    task = asyncio.ensure_future(running)
    await until(lambda: bool(peer.heard))
    task.cancel()
    await asyncio.wait([task])
    error = json.loads(peer.heard[0])
    assert (error["reason"], error["requestId"]) == ("ROLE_MISSING", "r")


def strangers() -> SessionServices:
    """Services of which nothing but the credentials may be used."""
    return SessionServices(*([cast(Any, None)] * 8))._replace(
        credentials=credential_check(), limits=DashboardLimits(5.0, 131_072, 10.0, 16, 1_048_576)
    )
