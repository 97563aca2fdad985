"""`distributor serve --workers` as a process, with real agents on it."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any, Final

from distributor.agent import Agent, CommandContext
from tests.support.launched_server import LaunchedServer, command_line, descendants_of, launched_server
from tests.support.serving_agent import Flag, background
from tests.support.waiting import PATIENCE_SECONDS, eventually

ENOUGH_AGENTS: Final = 40
"""That all of them are at one of two workers happens once in 10^12 times."""
SOME_AGENTS: Final = 4


class SeveralWorkers:
    """A server that serves."""

    def __init__(self, server: LaunchedServer, fields: dict[str, Any]) -> None:
        self.server = server
        self.address = str(fields["grpc"])
        self.http = str(fields["http"])
        self.mutual_tls = str(fields["mutual_tls"])

    @property
    def pids(self) -> set[int]:
        """Process ids of the workers."""
        return {pid for pid in descendants_of(self.server.process.pid) if b"worker_program" in command_line(pid)}

    async def get(self, path: str, token: str = "") -> tuple[int, str]:
        """The status and the body of an answer over HTTP."""
        return await asyncio.to_thread(self._get, path, {"Authorization": f"Bearer {token}"} if token else {})

    async def get_over_tls(self, path: str, context: ssl.SSLContext) -> int:
        """The status of an answer over HTTPS."""

        def get() -> int:
            connection = http.client.HTTPSConnection(self.http, context=context, timeout=PATIENCE_SECONDS)
            with closing(connection):
                connection.request("GET", path)
                return connection.getresponse().status

        return await asyncio.to_thread(get)

    async def samples(self, name: str) -> dict[str, float]:
        """The values of a metric by its worker."""
        _, text = await self.get("/metrics")
        found = re.findall(rf'^{name}(?:_total)?{{.*?worker="(\w+)".*?}} (\S+)$', text, re.MULTILINE)
        return {worker: float(value) for worker, value in found}

    async def agents(self) -> dict[str, float]:
        """How many agents each worker has."""
        return await self.samples("distributor_agents_connected")

    async def ready(self) -> tuple[int, dict[str, str]]:
        """The status of /readyz, and its checks."""
        status, body = await self.get("/readyz")
        return status, json.loads(body)["checks"]

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, str]:
        request = urllib.request.Request(f"http://{self.http}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@asynccontextmanager
async def several_workers(*arguments: str, **environment: str) -> AsyncIterator[SeveralWorkers]:
    """A server of two workers on any free ports."""
    ports = ["--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0", "--log-format=json"]
    async with launched_server("serve", "--workers=2", *ports, *arguments, **environment) as server:
        yield SeveralWorkers(server, json.loads(await server.line('"serving"')))


class Fleet:
    """Agents whose handler counts the starts of each command, then runs until it is released."""

    def __init__(self, address: str, stack: AsyncExitStack) -> None:
        self.agent_ids: list[str] = []
        self.starts: Counter[str] = Counter()
        self.release = Flag()
        self._address = address
        self._stack = stack

    async def add(self) -> None:
        """One more agent, which need not be attached yet."""
        agent = Agent(f"agent-{len(self.agent_ids)}", server=self._address, capacity=5)
        agent.journal = None
        agent.add_handler("COUNT", self._count)
        self.agent_ids.append(agent.agent_id)
        await self._stack.enter_async_context(background(agent.serve()))

    async def _count(self, context: CommandContext) -> dict[str, bool]:
        self.starts[context.command_id] += 1
        await self.release.wait()
        return {"done": True}


@asynccontextmanager
async def fleet_on_all(workers: SeveralWorkers) -> AsyncIterator[Fleet]:
    """Agents, of which each worker has at least one."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(workers.address, stack)
        while len(fleet.agent_ids) < SOME_AGENTS or len(await spread(workers, fleet)) < 2:
            assert len(fleet.agent_ids) < ENOUGH_AGENTS, "one worker takes no agents"
            await fleet.add()
        yield fleet


async def spread(workers: SeveralWorkers, fleet: Fleet) -> list[str]:
    """The workers that have agents, once all of the fleet are attached."""

    async def attached() -> list[str] | None:
        agents = await workers.agents()
        if sum(agents.values()) < len(fleet.agent_ids):
            return None
        return [worker for worker, number in agents.items() if number]

    return await eventually(attached)
