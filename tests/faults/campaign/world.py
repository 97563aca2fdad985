"""Everything that one run needs: Valkey, servers, agents, the proxies between them, clients, history and ledger."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.slow_disk import SlowDisk
from distributor.client import ClientOptions, CommandClient, CommandRequest
from distributor.errors import DistributorError
from distributor.model.retry_policy import RetryPolicy
from distributor.store.server_binary import find_server_binary
from tests.faults.campaign import hooks
from tests.faults.campaign.clock_shift import ClockShift, compiled
from tests.faults.campaign.complaints import Complaint, LogReader
from tests.faults.campaign.history import History, Kind
from tests.faults.campaign.ledger import Ledger, now
from tests.faults.campaign.processes import Program, Supervised, python
from tests.faults.campaign.proxy import Proxy
from tests.faults.campaign.valkey_server import ValkeyProgram
from tests.support.free_port import free_port
from tests.support.waiting import eventually

QUICK: Final[Mapping[str, str]] = {
    "heartbeat_interval": "0.5",
    "start_within": "2",
    "ack_deadline": "3",
    "offline_after": "3",
    "retry_first": "0.2",
    "retry_most": "1",
    "polling_interval": "1",
    "drain_timeout": "5",
    "stop_grace": "2",
}
"""Settings with which a fault shows in seconds. The machine may be busy: no bound is below two seconds."""

RECOVERY_PATIENCE_SECONDS: Final = 120.0
"""Beyond each bound of a recovery, also on a busy machine."""

DEFAULTS: Final[Mapping[str, str]] = {}
"""The settings of a server as it is installed."""


@dataclass(frozen=True)
class Plan:
    """What a world consists of."""

    servers: int = 2
    agents: int = 3
    capacity: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: QUICK)
    several_addresses: bool = False
    """Whether agents know each server by an address of its own, instead of one address for all."""
    clocks: bool = False
    """Whether each server and agent has a wall clock of its own, which faults may set."""
    embedded: bool = False
    """Whether the only server embeds its Valkey, on a disk that faults may slow down."""
    appendfsync: str = "no"
    """Of a Valkey of its own: no, everysec or always."""
    slow_disk: bool = False
    """Whether a Valkey of its own is on a disk that faults may slow down."""


class Server:
    """One server, the proxy that agents and clients reach it by, and the proxy by which it reaches Valkey."""

    def __init__(self, name: str, program: Program, address: str, valkey: Proxy | None) -> None:
        """`valkey` is None if it embeds its own."""
        self.name = name
        self.program = program
        self.address = address
        self.valkey = valkey

    async def ready(self) -> None:
        """Wait until the latest start serves."""
        await self.program.said(" serving ", times=self.program.starts)


class Agent:
    """One agent under its supervisor, and the proxies by which it reaches the servers."""

    def __init__(self, agent_id: str, supervised: Supervised, links: Sequence[Proxy], folder: Path) -> None:
        """`folder` holds its journal."""
        self.agent_id = agent_id
        self.supervised = supervised
        self.links = links
        self.folder = folder

    @property
    def program(self) -> Program:
        """Its process."""
        return self.supervised.program


class World:
    """The parts, all running. Faults reach into it."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.history = History(folder / "history.jsonl")
        self.ledger = Ledger(folder / "ledger")
        self.server_hooks, self.agent_hooks = folder / "server-hooks", folder / "agent-hooks"
        self.valkey: ValkeyProgram
        self.valkey_supervised: Supervised
        self.servers: list[Server] = []
        self.agents: list[Agent] = []
        self.clients: list[CommandClient] = []
        self.clocks: dict[str, ClockShift] = {}
        """By server and agent, if the plan has clocks."""
        self.disk: SlowDisk | None = None
        """Of Valkey, if the plan lets faults slow it down."""
        self._clock_library: Path | None = None
        self._logs = LogReader()

    def live_servers(self) -> Sequence[str]:
        """Addresses of servers whose process runs; a load balancer in front of them would know no more."""
        return [server.address for server in self.servers if server.program.running]

    def agent(self, agent_id: str) -> Agent:
        """The agent of this id."""
        return next(agent for agent in self.agents if agent.agent_id == agent_id)

    def clock_environment(self, name: str) -> Mapping[str, str]:
        """The variables that give a program a clock of its own, if the plan has clocks."""
        if not self.plan.clocks:
            return {}
        if self._clock_library is None:
            self._clock_library = compiled(self.folder)
        self.clocks[name] = ClockShift(self._clock_library, name)
        return self.clocks[name].environment

    def complaints(self) -> list[Complaint]:
        """What servers and agents have complained of in their logs since this was last called."""
        programs = [server.program for server in self.servers] + [agent.program for agent in self.agents]
        return list(self._logs.complaints(program.log for program in programs))

    async def start_server(self, server: Server) -> None:
        """Start it, and wait until it serves."""
        server.program.start()
        await server.ready()

    async def all_attached(self) -> None:
        """Wait until every agent is connected."""

        async def attached() -> bool:
            try:
                return {agent.agent_id async for agent in self.clients[0].agents() if not agent.away_since_ms} >= {
                    agent.agent_id for agent in self.agents
                }
            except DistributorError:
                return False

        await eventually(attached)

    async def recovery(self) -> float:
        """Seconds until every agent has run a command that is queued now, at most RECOVERY_PATIENCE_SECONDS."""
        begun = now()

        async def probe(agent: Agent, place: int) -> None:
            while True:
                client = self.clients[place % len(self.clients)]
                try:
                    queued = await client.queue(CommandRequest(agent.agent_id, "PING"))
                    await client.wait(queued.command_id)
                    return
                except DistributorError:
                    await asyncio.sleep(0.05)

        # If it takes longer, it shows in the time.
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY_PATIENCE_SECONDS):
                await asyncio.gather(*(probe(agent, place) for place, agent in enumerate(self.agents)))
        return now() - begun


@asynccontextmanager
async def world(plan: Plan, folder: Path) -> AsyncIterator[World]:
    """A world with everything running and attached."""
    made = World(plan, folder)
    made.server_hooks.mkdir()
    made.agent_hooks.mkdir()
    async with AsyncExitStack() as stack:
        stack.callback(made.history.close)
        if not plan.embedded:
            await _start_valkey(made, stack)
        for number in range(plan.servers):
            await _add_server(made, stack, number)
        await asyncio.gather(*(server.ready() for server in made.servers))
        for number in range(plan.agents):
            await _add_agent(made, stack, number)
        await made.all_attached()
        yield made


async def _start_valkey(made: World, stack: AsyncExitStack) -> None:
    folder = made.folder / "valkey"
    folder.mkdir()
    if made.plan.slow_disk:
        made.disk = SlowDisk(made.folder / "disk")
    made.valkey = ValkeyProgram(folder, stack.enter_context(free_port()), made.disk, made.plan.appendfsync)
    made.valkey_supervised = Supervised(made.valkey)
    made.valkey_supervised.start()
    stack.push_async_callback(made.valkey_supervised.stop)
    await made.valkey.ready()


async def _add_server(made: World, stack: AsyncExitStack, number: int) -> None:
    name = f"server{number}"
    address = f"127.0.0.1:{stack.enter_context(free_port())}"
    link: Proxy | None = None
    environment = {f"DISTRIBUTOR_{setting.upper()}": value for setting, value in made.plan.settings.items()}
    environment |= {hooks.FOLDER: str(made.server_hooks), **made.clock_environment(name)}
    if made.plan.embedded:
        made.disk = SlowDisk(made.folder / "disk")
        path = made.disk.server_on_path(find_server_binary().path)
        environment |= {"PATH": f"{path}:{os.environ['PATH']}"}
        storage = f"--data-dir={made.folder / 'data'}"
    else:
        link = await stack.enter_async_context(Proxy(lambda: [made.valkey.address]))
        storage = f"--valkey-url=valkey://{link.address}/0"
    program = Program(
        python(
            "hooked_server.py",
            "serve",
            f"--listen={address}",
            "--http-listen=127.0.0.1:0",
            storage,
        ),
        made.folder / f"{name}.log",
        environment,
    )
    server = Server(name, program, address, link)
    program.start()
    stack.push_async_callback(program.stop)
    made.servers.append(server)
    options = ClientOptions(call_timeout_seconds=20.0, calls=RetryPolicy(attempts=8, first_ms=100, max_ms=1_000))
    made.clients.append(await stack.enter_async_context(CommandClient(address, options)))


async def _add_agent(made: World, stack: AsyncExitStack, number: int) -> None:
    agent_id = f"agent{number}"
    folder = made.folder / agent_id
    folder.mkdir()
    targets = [_only(server) for server in made.servers] if made.plan.several_addresses else [made.live_servers]
    links = [await stack.enter_async_context(Proxy(one)) for one in targets]
    program = Program(
        python(
            "hooked_agent.py",
            f"--agent={agent_id}",
            f"--server={','.join(link.address for link in links)}",
            f"--capacity={made.plan.capacity}",
            "--allow-exec",
        ),
        made.folder / f"{agent_id}.log",
        {hooks.FOLDER: str(made.agent_hooks), "XDG_STATE_HOME": str(folder), **made.clock_environment(agent_id)},
    )
    supervised = Supervised(program, lambda: made.history.note(Kind.AGENT_DIED, agent_id))
    supervised.start()
    stack.push_async_callback(supervised.stop)
    made.agents.append(Agent(agent_id, supervised, links, folder))


def _only(server: Server) -> Callable[[], Sequence[str]]:
    """The target of a proxy for one server."""
    return lambda: [server.address] if server.program.running else []
