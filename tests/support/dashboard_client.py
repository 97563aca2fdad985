"""A dashboard client that a test drives: it records what it receives and validates it against the schema."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.protocol_schema import check_message
from tests.support.waiting import PATIENCE_SECONDS

Message = dict[str, Any]


class DashboardClient:
    """One connection. Reads all the time unless `reading` is cleared; each `until` waits, bounded."""

    def __init__(self, socket: ClientConnection, *, checked: bool = True) -> None:
        self.socket = socket
        self.messages: list[Message] = []
        self.closed: tuple[int, str] | None = None
        self._checked = checked
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    # Saying

    async def say(self, type_: str, **fields: Any) -> None:
        """Send a message."""
        await self.socket.send(json.dumps({"type": type_, "version": "1.0.0", **fields}))

    async def connect(self, token: str, **fields: Any) -> Message:
        """Introduce itself; returns `connected`."""
        await self.say("dashboard:connect", token=token, **fields)
        return await self.first("connected")

    async def request(self, agent_id: str, **fields: Any) -> str:
        """Request a command; returns its id."""
        fields.setdefault("requestId", f"request {len(self.messages)}")
        await self.say("command:request", agentId=agent_id, **fields)
        wanted = ("command:accepted", "error")
        answer = await self.first(*wanted, requestId=fields["requestId"])
        assert answer["type"] == "command:accepted", answer
        return str(answer["commandId"])

    async def refused(self, type_: str, **fields: Any) -> Message:
        """Send something that is answered with an error, and return that."""
        await self.say(type_, requestId="refused", **fields)
        return await self.first("error", requestId="refused")

    async def settled(self) -> None:
        """Everything said before is in force, and answered."""
        count = len(self.of("pong"))
        await self.say("ping")
        await self.until(lambda: len(self.of("pong")) > count)

    # Hearing

    def of(self, *types: str, **fields: Any) -> list[Message]:
        """The messages of these types whose fields are so."""
        return [
            message
            for message in self.messages
            if message["type"] in types and all(message.get(name) == value for name, value in fields.items())
        ]

    async def first(self, *types: str, **fields: Any) -> Message:
        """The first such message, waited for."""
        await self.until(lambda: bool(self.of(*types, **fields)))
        return self.of(*types, **fields)[0]

    async def until(self, wanted: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for something heard. Fails when the connection ends or the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while not wanted():
                    assert not self._reader.done(), f"closed: {self.closed}; heard {self.types()}"
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise AssertionError(f"not heard in {seconds:g} s; heard {self.types()}") from error

    async def until_closed(self, seconds: float = PATIENCE_SECONDS) -> tuple[int, str]:
        """The code and reason with which the bridge ends the connection."""
        async with asyncio.timeout(seconds):
            await asyncio.wait([self._reader])
        self._reader.result()
        assert self.closed is not None
        return self.closed

    def types(self) -> list[str]:
        """What was heard, in short."""
        return [message["type"] for message in self.messages]

    def statuses(self, command_id: str) -> list[str]:
        """The exact statuses told of a command, without repeats."""
        states = [message["command"]["status"] for message in self.of("command:status", commandId=command_id)]
        return [state for place, state in enumerate(states) if place == 0 or states[place - 1] != state]

    def output(self, command_id: str, begin: int = 0) -> bytes:
        """All output of a command; fails where a byte is missing or came twice."""
        pieces = self.of("terminal:output", commandId=command_id)
        assert [piece["sequence"] for piece in pieces] == list(range(len(pieces)))
        seen = bytearray()
        for piece in pieces:
            assert piece["offset"] == begin + len(seen), "a gap or a repeat"
            seen += data_of(piece)
        return bytes(seen)

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                message = json.loads(text)
                if self._checked:
                    check_message(message)
                self.messages.append(message)
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            if self.socket.close_code is not None:
                self.closed = (self.socket.close_code, self.socket.close_reason or "")
            self._changed.set()


def data_of(piece: Message) -> bytes:
    """The bytes of a terminal:output."""
    data: str = piece["data"]
    return base64.b64decode(data) if piece.get("encoding") == "base64" else data.encode()


@asynccontextmanager
async def dashboard_client(url: str, *, checked: bool = True, **options: Any) -> AsyncIterator[DashboardClient]:
    """Open a connection to ws://…/ws; closed at the end."""
    async with connect(url, **{"max_size": None, "compression": None, "ping_interval": None, **options}) as socket:
        client = DashboardClient(socket, checked=checked)
        yield client
        await socket.close()
        await client.until_closed()
