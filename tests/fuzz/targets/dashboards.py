"""The WebSocket: every message of the protocol's schema, misplaced values, broken texts, and frames of any kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, PayloadTooBig

import distributor.bridge
from tests.fuzz.generators.byte_changes import random_bytes
from tests.fuzz.generators.call_metadata import odd_token
from tests.fuzz.generators.json_documents import JsonDocuments
from tests.fuzz.generators.vocabulary import Vocabulary
from tests.fuzz.target import REPLY_SECONDS, Fault

SCHEMA: Final[Mapping[str, Any]] = json.loads(
    (Path(distributor.bridge.__file__).parent / "protocol.schema.json").read_text()
)
MOST_MESSAGES: Final = 20
EXPECTED_CODES: Final = frozenset({1000, 1003, 1005, 1007, 1008, 1009, 1013})
"""Closes that a dashboard can cause. 1011 is a fault of the bridge, 1006 an end without a word."""
UNREAD_BYTES: Final = 65_536
"""A peer that is refused while it sends more may find its connection reset before it reads why."""
MOST_BYTES: Final = 2 << 20


class Dashboards:
    """Connections that say who they are, soundly or not, and then send several messages."""

    name = "dashboards"
    workers = 3

    def __init__(self, address: str, token: str, vocabulary: Vocabulary) -> None:
        """`token` is that of an administrator with grants for fuzzed agents: others may not be stopped."""
        self._url = f"ws://{address}/ws"
        self._token = token
        self._documents = JsonDocuments(SCHEMA, vocabulary)

    async def attempt(self, rng: Random, sound: bool) -> None:
        """Open a connection, send some messages, and close it or have it closed. Raises Fault."""
        sent: list[str | bytes] = []
        try:
            async with connect(self._url, max_size=None, compression=None, open_timeout=REPLY_SECONDS) as socket:
                reader = asyncio.create_task(_read(socket))
                try:
                    await self._converse(rng, socket, sent, sound)
                finally:
                    await socket.close()
                    faults = await reader
        except InvalidStatus as error:
            raise Fault(f"WebSocket: {error}") from error
        cut = socket.close_code == 1006 and sum(map(len, sent)) > UNREAD_BYTES
        if faults or not (cut or socket.close_code in EXPECTED_CODES):
            raise Fault(f"WebSocket: closed {socket.close_code} {socket.close_reason} {faults}", sent)

    async def _converse(self, rng: Random, socket: ClientConnection, sent: list[str | bytes], sound: bool) -> None:
        try:
            for message in self._messages(rng, sound):
                sent.append(message)
                await asyncio.wait_for(socket.send(message), REPLY_SECONDS)
        except (ConnectionClosed, PayloadTooBig):
            pass

    def _messages(self, rng: Random, sound: bool) -> list[str | bytes]:
        messages: list[str | bytes] = []
        if sound or rng.random() < 0.8:
            messages.append(json.dumps({"type": "dashboard:connect", "version": "1.0.0", "token": self._token}))
        elif rng.random() < 0.5:
            messages.append(json.dumps({"type": "dashboard:connect", "version": "1.0.0", "token": odd_token(rng)}))
        for _ in range(rng.randint(0, MOST_MESSAGES)):
            messages.append(self._message(rng, sound))
        return messages

    def _message(self, rng: Random, sound: bool) -> str | bytes:
        of = rng.choice([one for one in SCHEMA["$defs"]["clientMessage"]["oneOf"] if "Connect" not in one["$ref"]])
        if sound:
            return json.dumps(self._documents.sound(rng, of))
        if rng.random() < 0.02:
            return random_bytes(rng, MOST_BYTES)
        if rng.random() < 0.02:
            return "x" * rng.choice((1 << 20, (1 << 20) + 1))
        return self._documents.odd_text(rng, of)


async def _read(socket: ClientConnection) -> list[str]:
    """Read until the end; return the reasons of errors that are the bridge's fault."""
    faults: list[str] = []
    try:
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "error" and message["code"] in ("INTERNAL", "UNKNOWN"):
                faults.append(str(message))
    except ConnectionClosed:
        pass
    return faults
