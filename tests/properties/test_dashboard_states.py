"""Reads and events of random histories in every order: what a dashboard is sent never goes back.

Two bridges, each some events behind, read a store whose answers come when the test says. A dashboard connects,
subscribes, loses its connection, and resumes at the other bridge.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.bridge.agent_watch import AgentWatch, AgentWatchTimes
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.command_calls import CommandCalls
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.dashboard_session import DashboardLimits, DashboardSession, SessionServices
from distributor.bridge.event_hub import EventHub, EventSource
from distributor.bridge.output_pump import OutputPumps
from distributor.bridge.requests import Connect, Topics
from distributor.bridge.snapshot_sync import SnapshotSync
from distributor.bridge.store_view import StoreView
from distributor.bridge.subscriptions import Subscriptions
from distributor.client import CommandClient
from distributor.identity.roles import Role
from distributor.tasks import stop_tasks
from tests.support.dashboard_credentials import credential, credential_check
from tests.support.interleaved_store import InterleavedLog, InterleavedOutput, InterleavedStore, settle

COMMANDS: Final = tuple(f"0199a1b2-0000-7000-8000-00000000000{number}" for number in range(3))
STEPS: Final = ("change", "change", "deliver", "deliver", "answer", "answer", "answer", "ask", "away", "lose", "move")
TERMINAL: Final = ("completed", "failed", "timeout", "cancelled")
HOUR: Final = 3_600.0


class Bridge:
    """A bridge over the store, without a network."""

    def __init__(self, store: InterleavedStore) -> None:
        self.log = InterleavedLog(store)
        log = cast(Any, self.log)
        view, subscriptions = StoreView(store), Subscriptions[Dashboard]()
        self.pumps = OutputPumps(InterleavedOutput(store.gates))
        self.agents = AgentWatch(view, subscriptions, AgentWatchTimes(HOUR, HOUR, HOUR))
        metrics = BridgeMetrics()
        self.hub = EventHub(EventSource(log, log), view, self.pumps, self.agents, metrics, HOUR)
        self.services = SessionServices(
            self.hub,
            view,
            SnapshotSync(self.hub, view, self.pumps, self.agents, metrics),
            CommandCalls(CommandClient("127.0.0.1:1")),
            credential_check(),
            metrics,
            DashboardLimits(HOUR, 1, HOUR, 256, 1_048_576),
            cast(Any, None),
        )
        self.tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        await self.hub.catch_up()
        self.tasks.append(asyncio.create_task(self.hub.run()))

    def sweep(self) -> None:
        """Look at the agents, as every few seconds."""
        self.tasks.append(asyncio.create_task(self.agents.sweep()))

    async def stop(self) -> None:
        await stop_tasks(self.tasks)
        await self.pumps.stop()


class Reader:
    """A dashboard that keeps the highest revision, over all its connections."""

    address = "127.0.0.1"
    session_token = ""

    def __init__(self, what: Topics) -> None:
        self.what = what
        self.position: str | None = None
        self.kept: dict[str, tuple[int, str]] = {}
        self.results: set[str] = set()
        self.connected()

    def connected(self) -> None:
        """Forget what this connection was sent: the next may repeat it."""
        self.sent: dict[str, int] = {}
        self.endings: list[str] = []
        self.sent_results: list[str] = []
        self.asked: list[str] = []
        self.requests: asyncio.Queue[str] = asyncio.Queue()

    async def receive(self) -> str:
        return await self.requests.get()

    async def send(self, text: str) -> None:
        message = json.loads(text)
        match message["type"]:
            case "connected" | "resync":
                for command in message.get("commands", ()):
                    self._show(command)
            case "command:status":
                self._show(message["command"])
                if message["command"]["status"] in TERMINAL:
                    self.endings.append(message["commandId"])
            case "command:result":
                assert message["commandId"] in self.endings, "the result comes after the ending"
                self.sent_results.append(message["commandId"])
                self.results.add(message["commandId"])
            case "error":
                assert message["reason"] == "UNKNOWN_COMMAND"
        if message.get("position") and not message.get("resumed"):
            self.position = message["position"]

    def _show(self, command: dict[str, Any]) -> None:
        command_id, revision = command["commandId"], command["revision"]
        assert revision >= self.sent.get(command_id, 0), f"{command_id} went back"
        self.sent[command_id] = revision
        if revision > self.kept.get(command_id, (0, ""))[0]:
            self.kept[command_id] = revision, command["status"]

    def check(self) -> None:
        """Nothing ends twice on one connection, unless it was subscribed to again."""
        for sent in (self.endings, self.sent_results):
            for command_id in set(sent):
                assert sent.count(command_id) <= 1 + self.asked.count(command_id), f"{command_id} ended twice"


class Connection:
    """A reader and its session at one of the bridges."""

    def __init__(self, reader: Reader, bridge: Bridge) -> None:
        self.reader = reader
        self.bridge = bridge
        reader.connected()
        dashboard = Dashboard("d", credential(Role.VIEWER), DashboardOutbox())
        session = DashboardSession(reader, dashboard, bridge.services)
        connect = Connect("token", reader.what, reader.position)
        self.task: asyncio.Task[None] = asyncio.ensure_future(session.run(connect))


class World:
    """All of it, and the steps that a test may take."""

    def __init__(self, what: Topics) -> None:
        self.store = InterleavedStore()
        self._readers = [Reader(what), Reader(Topics(all_commands=True))]
        for command_id in COMMANDS:
            self.store.change(command_id, 0)

    async def run(self, steps: Sequence[tuple[str, int]]) -> None:
        self.bridges = [Bridge(self.store), Bridge(self.store)]
        for bridge in self.bridges:
            await bridge.start()
        self._connections = [Connection(reader, self.bridges[0]) for reader in self._readers]
        try:
            for step, choice in steps:
                await getattr(self, f"_{step}")(choice)
                await self._settled()
            await self._everything()
        finally:
            await stop_tasks([connection.task for connection in self._connections])
            for bridge in self.bridges:
                await bridge.stop()

    async def _settled(self) -> None:
        await settle()
        for connection in self._connections:
            if connection.task.done():
                connection.task.result()
            connection.reader.check()

    async def _change(self, choice: int) -> None:
        self.store.change(COMMANDS[choice % 3], choice // 3)

    async def _deliver(self, choice: int) -> None:
        self.bridges[choice % 2].log.delivers(1 + choice // 2 % 3)

    async def _answer(self, choice: int) -> None:
        for _ in range(1 + choice // 3):
            self.store.gates.open(choice)
            await settle()

    async def _ask(self, choice: int) -> None:
        """Subscribe to everything anew, or to commands that have not ended, or ask for the position."""
        reader = self._readers[choice % 2]
        alive = [name for name in COMMANDS if name not in reader.endings]
        kinds: tuple[dict[str, Any], ...] = (
            {"commands": alive},
            {"output": [{"commandId": name} for name in alive]},
            {"commands": ["*"]},
            {},
        )
        if choice // 2 % 4 < 2:
            reader.asked += alive
        what = kinds[choice // 2 % 4]
        message = {"type": "subscribe" if what else "ping", "version": "1.0.0", **what}
        reader.requests.put_nowait(json.dumps(message))

    async def _away(self, choice: int) -> None:
        self.store.away_since_ms = choice // 2 % 2
        self.bridges[choice % 2].sweep()

    async def _lose(self, choice: int) -> None:
        if choice % 4 == 0:
            self.bridges[choice // 4 % 2].log.loses()

    async def _move(self, choice: int) -> None:
        if choice % 3 == 0:
            place = choice // 3 % 2
            connection = self._connections[place]
            await stop_tasks([connection.task])
            self._connections[place] = Connection(connection.reader, self.bridges[choice // 6 % 2])

    async def _everything(self) -> None:
        """Everything comes and is answered: each dashboard has the last state of each command."""
        last = {name: (one.revision, one.status.value) for name, one in self.store.known.items()}
        for _ in range(100):
            for bridge in self.bridges:
                bridge.log.delivers(100)
            for _ in range(len(self.store.gates.waiting)):
                self.store.gates.open(0)
            await self._settled()
            if not self.store.gates.waiting and all(reader.kept == last for reader in self._readers):
                return
        assert [reader.kept for reader in self._readers] == [last, last]


TOPICS: Final = st.sampled_from(
    [
        Topics(all_commands=True, all_agents=True),
        Topics(commands=COMMANDS),
        Topics(output=dict.fromkeys(COMMANDS, 0)),
        Topics(all_commands=True, commands=COMMANDS[:1], output={COMMANDS[1]: 0}),
    ]
)


@settings(max_examples=300)
@given(what=TOPICS, steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 23)), min_size=10, max_size=80))
def test_what_a_dashboard_is_sent_never_goes_back(what: Topics, steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        await World(what).run(steps)

    asyncio.run(run())
