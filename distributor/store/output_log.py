"""Output of commands: one stream per command; an entry's id is the offset after its last byte."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final

from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal, OutputStream
from distributor.model.lifecycle import Operation, sources
from distributor.store import keys
from distributor.store.exchanges import Exchanges
from distributor.store.policy import StorePolicy
from distributor.store.stored_form import plain_output
from distributor.store.valkey_connection import Argument, ValkeyConnection
from distributor.tasks import off_loop

_MAX_CHUNKS_PER_READ: Final = 64
_STREAMS: Final = {str(number).encode(): stream for number, stream in enumerate(OutputStream, start=1)}
_REFUSALS: Final = {-1: OutputRefusal.STALE, -2: OutputRefusal.ENDED, -3: OutputRefusal.UNKNOWN}
_FINISH_SOURCES: Final = ",".join(sources(Operation.FINISH))


class ValkeyOutputLog:
    """The OutputLog port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: ValkeyConnection, exchanges: Exchanges, policy: StorePolicy) -> None:
        self._connection = connection
        self._output_kept_bytes = policy.output_kept_bytes
        self._appends = exchanges.queue("append_output", self._append_arguments, _safe_offsets)

    def append(self, pieces: Sequence[OutputPiece]) -> Awaitable[list[int | OutputRefusal]]:
        return self._appends.submit(pieces)

    def _append_arguments(self, pieces: list[OutputPiece]) -> list[Argument]:
        arguments: list[Argument] = [self._output_kept_bytes, _FINISH_SOURCES]
        for piece in pieces:
            arguments += _stored_form(piece)
        return arguments

    async def base(self, command_id: str) -> int:
        key = keys.STATUS.format(command_id=command_id)
        return int(await self._connection.call("HGET", key, "output_base") or 0)

    async def read(self, command_id: str, offset: int, max_bytes: int) -> list[OutputChunk]:
        # The first entry that ends beyond the offset contains that byte, or follows dropped output.
        key = keys.OUTPUT.format(command_id=command_id)
        position, chunks = offset, list[OutputChunk]()
        while not chunks:
            entries = await self._connection.call(
                "XRANGE", key, f"{position + 1}-0", "+", "COUNT", _MAX_CHUNKS_PER_READ
            )
            if not entries:
                break
            chunks = await off_loop(_work(entries), _chunks, entries, position, max_bytes)
            # Unless all were unreadable, this is the last round.
            position = _end(entries[-1][0])
        return chunks


def _safe_offsets(pieces: list[OutputPiece], reply: Any) -> list[int | OutputRefusal]:
    return [_REFUSALS.get(offset, offset) for offset in reply]


def _stored_form(piece: OutputPiece) -> tuple[Argument, ...]:
    start = piece.command_id, piece.agent_id, piece.lease_id, piece.stream, piece.offset
    return (*start, piece.packed, len(piece.data)) if piece.packed else (*start, piece.data, "")


def _end(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _plain_size(fields: list[bytes]) -> int:
    """Size of a compressed entry when decompressed; 0 if it is not a number."""
    return int(fields[7]) if fields[6] == b"z" and fields[7].isdigit() and len(fields[7]) < 20 else 0


def _work(entries: Sequence[tuple[bytes, list[bytes]]]) -> int:
    """Bytes of work to decompress entries."""
    return sum(_plain_size(fields) for _, fields in entries if len(fields) > 6)


def _chunks(entries: Sequence[tuple[bytes, list[bytes]]], position: int, max_bytes: int) -> list[OutputChunk]:
    """Return output from `position` on, about `max_bytes` of it. Entries may overlap; unreadable ones leave a gap."""
    chunks: list[OutputChunk] = []
    size = 0
    for entry_id, fields in entries:
        _, stream, _, received_ms, _, data = fields[:6]
        plain = plain_output(data, _plain_size(fields)) if len(fields) > 6 else data
        if plain is None:
            continue
        end = _end(entry_id)
        cut = plain[max(0, position - end + len(plain)) :]
        if cut:
            chunks.append(OutputChunk(_STREAMS[stream], end - len(cut), bytes(cut), int(received_ms)))
            position = end
            size += len(cut)
        if size >= max_bytes:
            break
    return chunks
