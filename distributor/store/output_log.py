"""Output of commands: one stream per command; an entry's id is the offset after its last byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal, OutputStream
from distributor.model.lifecycle import Operation, sources
from distributor.store import keys
from distributor.store.functions import Functions
from distributor.store.group_commit import GroupCommit
from distributor.store.policy import StorePolicy
from distributor.store.valkey_connection import Argument, ValkeyConnection

MAX_PIECES_PER_CALL: Final = 100
_MAX_CHUNKS_PER_READ: Final = 64
_STREAMS: Final = {str(number).encode(): stream for number, stream in enumerate(OutputStream, start=1)}
_REFUSALS: Final = {-1: OutputRefusal.STALE, -2: OutputRefusal.ENDED, -3: OutputRefusal.UNKNOWN}
_FINISH_SOURCES: Final = ",".join(sources(Operation.FINISH))


class ValkeyOutputLog:
    """The OutputLog port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: ValkeyConnection, functions: Functions, replica: str, policy: StorePolicy) -> None:
        self._connection = connection
        self._functions = functions
        self._head: list[Argument] = [replica, policy.events_kept, policy.output_kept_bytes, _FINISH_SOURCES]
        self._appends = GroupCommit(self._send_appends, MAX_PIECES_PER_CALL)

    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | OutputRefusal]:
        return await self._appends.submit(pieces)

    async def _send_appends(self, pieces: list[OutputPiece]) -> list[int | OutputRefusal]:
        arguments = list(self._head)
        for piece in pieces:
            arguments += piece
        reply = await self._functions.call("append_output", arguments, len(pieces))
        return [_REFUSALS.get(offset, offset) for offset in reply]

    async def base(self, command_id: str) -> int:
        key = keys.STATUS.format(command_id=command_id)
        return int(await self._connection.call("HGET", key, "output_base") or 0)

    async def read(self, command_id: str, offset: int, max_bytes: int) -> list[OutputChunk]:
        # The first entry that ends beyond the offset contains that byte, or follows dropped output.
        key = keys.OUTPUT.format(command_id=command_id)
        entries = await self._connection.call("XRANGE", key, f"{offset + 1}-0", "+", "COUNT", _MAX_CHUNKS_PER_READ)
        chunks: list[OutputChunk] = []
        size = 0
        for entry_id, (_, stream, _, received_ms, _, data) in entries:
            begin = int(entry_id.partition(b"-")[0]) - len(data)
            cut = data[max(0, offset - begin) :]
            chunks.append(OutputChunk(_STREAMS[stream], begin + len(data) - len(cut), bytes(cut), int(received_ms)))
            size += len(cut)
            if size >= max_bytes:
                break
        return chunks

    async def idle(self) -> None:
        """Return once no call is in progress."""
        await self._appends.idle()
