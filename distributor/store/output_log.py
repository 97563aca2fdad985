"""Output of commands: one list per command, which has two elements for each piece of output: a head and the data."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal, OutputStream
from distributor.model.lifecycle import Operation, sources
from distributor.store import keys
from distributor.store.connections import Reads
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.policy import StorePolicy
from distributor.store.stored_form import plain_output
from distributor.store.valkey_connection import Argument
from distributor.tasks import off_loop

_STREAMS: Final = {str(number).encode(): stream for number, stream in enumerate(OutputStream, start=1)}
_REFUSALS: Final = {-1: OutputRefusal.STALE, -2: OutputRefusal.ENDED, -3: OutputRefusal.UNKNOWN}
_SOURCES: Final = [",".join(sources(operation)) for operation in (Operation.FINISH, Operation.SETTLE)]


class ValkeyOutputLog:
    """The OutputLog port on Valkey. Safe for concurrent use on one event loop.

    Reads have a connection of their own: large replies must not delay functions that change commands.
    """

    def __init__(self, connection: Reads, functions: Functions, exchanges: Exchanges, policy: StorePolicy) -> None:
        self._connection = connection
        self._functions = functions
        self._kept = policy.output_kept_bytes, policy.output_kept_pieces
        self._appends = exchanges.queue("append_output", self._append_arguments, _safe_offsets)

    def append(self, pieces: Sequence[OutputPiece]) -> Awaitable[list[int | OutputRefusal]]:
        return self._appends.submit(pieces)

    def _append_arguments(self, pieces: list[OutputPiece]) -> list[Argument]:
        arguments: list[Argument] = [*self._kept, *_SOURCES]
        for piece in pieces:
            arguments += _stored_form(piece)
        return arguments

    async def base(self, command_id: str) -> int:
        key = self._functions.names.of_command(keys.STATUS, command_id)
        return int(await self._connection.call("HGET", key, "output_base") or 0)

    async def read(self, command_id: str, offset: int, max_bytes: int) -> list[OutputChunk]:
        position, chunks = offset, list[OutputChunk]()
        while not chunks:
            found = await self._functions.read("read_output", [command_id, position, max_bytes], self._connection)
            pieces = [piece for piece in map(_parsed, found[::2], found[1::2]) if piece is not None]
            if not pieces or pieces[-1].end <= position:
                break
            chunks = await off_loop(_work(pieces), _chunks, pieces, position, max_bytes)
            # Unless all were unreadable, this is the last round.
            position = pieces[-1].end
        return chunks


class _Stored(NamedTuple):
    """A piece as it is stored: `data` is gzip of `plain_size` bytes unless that is 0."""

    end: int
    stream: OutputStream
    received_ms: int
    plain_size: int
    data: bytes


_UNREADABLE: Final = -1
"""A plain size that no piece has."""


def _safe_offsets(pieces: list[OutputPiece], reply: Any) -> list[int | OutputRefusal]:
    return [_REFUSALS.get(offset, offset) for offset in reply]


def _stored_form(piece: OutputPiece) -> tuple[Argument, ...]:
    start = piece.command_id, piece.agent_id, piece.lease_id, piece.stream, piece.offset
    return (*start, piece.packed, len(piece.data)) if piece.packed else (*start, piece.data, "")


def _parsed(head: bytes, data: bytes) -> _Stored | None:
    """Parse a stored piece. None if it does not even say where it ends: other programs may write to Valkey."""
    end, *rest = head.split(b" ")
    if not end.isdigit():
        return None
    try:
        stream, received_ms, *plain_size = rest
        return _Stored(int(end), _STREAMS[stream], int(received_ms), int(plain_size[0]) if plain_size else 0, data)
    except (ValueError, KeyError):
        return _Stored(int(end), OutputStream.STDOUT, 0, _UNREADABLE, b"")


def _work(pieces: Iterable[_Stored]) -> int:
    """Bytes of work to decompress pieces."""
    return sum([piece.plain_size for piece in pieces])


def _chunks(pieces: Iterable[_Stored], position: int, max_bytes: int) -> list[OutputChunk]:
    """Return output from `position` on, about `max_bytes` of it. Pieces may overlap; unreadable ones leave a gap."""
    chunks: list[OutputChunk] = []
    size = 0
    for piece in pieces:
        plain = plain_output(piece.data, piece.plain_size) if piece.plain_size else piece.data
        if plain is None:
            continue
        cut = plain[max(0, position - piece.end + len(plain)) :]
        if cut:
            chunks.append(OutputChunk(piece.stream, piece.end - len(cut), cut, piece.received_ms))
            position = piece.end
            size += len(cut)
        if size >= max_bytes:
            break
    return chunks
