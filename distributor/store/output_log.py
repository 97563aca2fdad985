"""Output of commands: one stream per command; an entry's id is the offset after its last byte."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final

from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal, OutputStream
from distributor.model.lifecycle import TERMINAL, Operation, sources
from distributor.store import keys
from distributor.store.exchanges import Exchanges
from distributor.store.policy import StorePolicy
from distributor.store.valkey_connection import Argument, ValkeyConnection

_MAX_CHUNKS_PER_READ: Final = 64
_STREAMS: Final = {str(number).encode(): stream for number, stream in enumerate(OutputStream, start=1)}
_REFUSALS: Final = {-1: OutputRefusal.STALE, -2: OutputRefusal.ENDED, -3: OutputRefusal.UNKNOWN}
_FINISH_SOURCES: Final = ",".join(sources(Operation.FINISH))
_TERMINAL_STATES: Final = ",".join(sorted(TERMINAL))


class ValkeyOutputLog:
    """The OutputLog port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: ValkeyConnection, exchanges: Exchanges, policy: StorePolicy) -> None:
        self._connection = connection
        self._output_kept_bytes = policy.output_kept_bytes
        self._appends = exchanges.queue("append_output", self._append_arguments, _safe_offsets)

    def append(self, pieces: Sequence[OutputPiece]) -> Awaitable[list[int | OutputRefusal]]:
        return self._appends.submit(pieces)

    def _append_arguments(self, pieces: list[OutputPiece]) -> list[Argument]:
        arguments: list[Argument] = [self._output_kept_bytes, _FINISH_SOURCES, _TERMINAL_STATES]
        for piece in pieces:
            arguments += piece
        return arguments

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


def _safe_offsets(pieces: list[OutputPiece], reply: Any) -> list[int | OutputRefusal]:
    return [_REFUSALS.get(offset, offset) for offset in reply]
