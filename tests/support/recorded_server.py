"""A server of a recorded version: it sends what that version sends, and knows the replies that version expects."""

from __future__ import annotations

import re
from typing import Any, Final

from valkey.asyncio import Valkey

from tests.support.store_recording import COMMAND_ID, LIBRARY, Recording, readable, text_of

DIGEST: Final = "0123cafe"
"""Makes even a recording of the current functions another library."""


class RecordedServer:
    """Plays a recording against a Valkey. It uses no code of the store, only the recording."""

    def __init__(self, recording: Recording, client: Valkey) -> None:
        """`client` must not be shared: its conversion of replies is switched off."""
        self.recording = recording
        self._client = client
        client.response_callbacks.clear()

    async def load(self) -> None:
        """Load the recorded functions, as another library than those of today."""
        version = re.search(r"local VERSION = '(\w{8})'", self.recording.library)
        assert version is not None
        await self._client.execute_command(
            "FUNCTION", "LOAD", "REPLACE", self.recording.library.replace(version[1], DIGEST)
        )

    async def play(self, step: str) -> list[Any]:
        """Send what was sent in a step, and return the replies in readable form."""
        return [readable(call.send, await self.send(call.send)) for call in self.recording.steps[step]]

    def expected(self, step: str) -> list[Any]:
        """The replies that this version expects in a step."""
        return [call.reply for call in self.recording.steps[step]]

    async def send(self, command: list[str]) -> Any:
        """Send one recorded command."""
        return await self._client.execute_command(
            *(part.replace(LIBRARY, DIGEST).encode(errors="surrogateescape") for part in command)
        )

    async def row(self, command_id: str) -> dict[str, Any]:
        """The state of a command as that version reads it; empty if there is none. Unset fields are left out."""
        command, key, *fields = self.recording.reader["state"]
        values = await self.send([command, key.replace(COMMAND_ID, command_id), *fields])
        numbers = {name for name, kind in self.recording.reader["members"].items() if kind == "number"}
        row = {name: text_of(value) for name, value in zip(fields, values, strict=True) if value}
        typed = {name: int(value) if name in numbers else value for name, value in row.items()}
        return {name: value for name, value in typed.items() if value}
