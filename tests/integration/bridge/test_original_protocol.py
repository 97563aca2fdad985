"""A client of the original dashboard protocol: it sends the messages as that spells them, and knows no others."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection, connect

from distributor.agent import Agent, ExecPolicy
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.serving_agent import background
from tests.support.waiting import PATIENCE_SECONDS

AGENT: Final = "agent123"
FIELDS: Final[dict[str, dict[str, type]]] = {
    "agent:status": {"agentId": str, "status": str, "timestamp": int},
    "terminal:output": {"commandId": str, "data": str, "stream": str, "sequence": int},
    "command:status": {"commandId": str, "status": str},
}
VALUES: Final = {
    "agent:status": ("online", "busy", "offline"),
    "command:status": ("queued", "running", "completed", "failed", "interrupted"),
}


class OriginalClient:
    """Sends three messages and understands three."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def connect(self, token: str) -> None:
        client_info = {"userAgent": "Mozilla/5.0", "timezone": "Europe/Berlin"}
        await self._send({"type": "dashboard:connect", "version": "1.0.0", "token": token, "clientInfo": client_info})

    async def request(self, command: str, agent_id: str = AGENT) -> None:
        fields = {"agentId": agent_id, "command": command, "priority": "normal"}
        await self._send({"type": "command:request", "version": "1.0.0", **fields})

    async def interrupt(self, command_id: str) -> None:
        await self._send({"type": "command:interrupt", "version": "1.0.0", "commandId": command_id})

    async def next(self, type_: str, **wanted: Any) -> dict[str, Any]:
        """The next such message; those of the protocol that come before it are checked, others are skipped."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                message: dict[str, Any] = json.loads(await self._socket.recv())
                _check(message)
                if message["type"] == type_ and all(message[name] == value for name, value in wanted.items()):
                    return message

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(message))


def _check(message: dict[str, Any]) -> None:
    assert message["version"] == "1.0.0"
    for name, kind in FIELDS.get(message["type"], {}).items():
        assert type(message[name]) is kind, message
    if message["type"] in VALUES:
        assert message["status"] in VALUES[message["type"]]


@asynccontextmanager
async def client(bridge: RunningBridge) -> AsyncIterator[OriginalClient]:
    async with connect(bridge.socket_url) as socket:
        yield OriginalClient(socket)


@asynccontextmanager
async def agent(server: RunningServer, policy: ExecPolicy | None) -> AsyncIterator[None]:
    async with background(Agent(AGENT, server=server.address, exec_policy=policy).serve()):
        yield


@pytest.fixture
async def dashboard(bridge: RunningBridge) -> AsyncIterator[OriginalClient]:
    async with client(bridge) as dashboard:
        await dashboard.connect(bridge.token())
        yield dashboard


async def test_a_command_from_request_to_end(server: RunningServer, dashboard: OriginalClient) -> None:
    async with agent(server, ExecPolicy()):
        online = await dashboard.next("agent:status", agentId=AGENT, status="online")
        assert abs(online["timestamp"] - time.time() * 1000) < 60_000
        await dashboard.request("for word in one two; do echo $word; done; exit 3")
        # With room for one command, the agent is busy while it runs.
        output = await dashboard.next("terminal:output")
        assert (output["stream"], output["sequence"], output["data"][:4]) == ("stdout", 0, "one\n")
        ended = await dashboard.next("command:status", status="failed")
        assert (ended["commandId"], ended["exitCode"]) == (output["commandId"], 3)
    await dashboard.next("agent:status", agentId=AGENT, status="offline")


async def test_an_interrupt(server: RunningServer, dashboard: OriginalClient) -> None:
    async with agent(server, ExecPolicy(stop_grace=0.2)):
        await dashboard.next("agent:status", status="online")
        await dashboard.request("echo started; sleep 60")
        command_id = (await dashboard.next("terminal:output"))["commandId"]
        await dashboard.interrupt(command_id)
        await dashboard.next("command:status", commandId=command_id, status="interrupted")


async def test_an_agent_that_is_offline_is_an_error_and_nothing_is_queued(
    bridge: RunningBridge, dashboard: OriginalClient
) -> None:
    await dashboard.request("uname -a", agent_id="unknown")
    error = await dashboard.next("error")
    assert (error["code"], error["reason"]) == ("FAILED_PRECONDITION", "AGENT_OFFLINE")
    assert (await bridge.get("/api/commands")).json()["commands"] == []


async def test_a_host_without_a_shell_says_so(server: RunningServer, dashboard: OriginalClient) -> None:
    async with agent(server, ExecPolicy(("uname",))):
        await dashboard.next("agent:status", status="online")
        await dashboard.request("uname -a")
        failed = await dashboard.next("command:status", status="failed")
    assert failed["command"]["reason"]["code"] == "program_not_allowed"
    assert "'sh'" in failed["command"]["reason"]["message"]


async def test_an_empty_command_is_invalid(dashboard: OriginalClient) -> None:
    await dashboard.request("")
    assert (await dashboard.next("error"))["message"].startswith("Invalid command: it is empty")


async def test_close_codes(server: RunningServer) -> None:
    async with running_bridge(server, max_connections=1) as bridge:
        async with connect(bridge.socket_url) as socket:
            await OriginalClient(socket).connect("not a token")
            await socket.wait_closed()
            assert socket.close_code == 1008
        async with client(bridge) as first, connect(bridge.socket_url) as second:
            await second.wait_closed()
            assert second.close_code == 1013
            await first.connect(bridge.token())
        assert (await bridge.get("/ws", token=None)).status == 426
