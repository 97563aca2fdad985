"""Stores the audit trail: rows in a stream for each segment, beside the head and the manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from distributor.dispatch.ports import AuditAppended, AuditState
from distributor.identity.audit_chain import ChainExtension
from distributor.identity.audit_head import Authenticated
from distributor.identity.audit_rows import StoredRow
from distributor.identity.audit_verification import NumberedRow
from distributor.store import keys
from distributor.store.connections import Reads
from distributor.store.functions import Functions
from distributor.store.valkey_connection import Argument

_NO_MANIFEST: Final[tuple[Argument, ...]] = ("", "", "")
_DROP_NOTHING: Final[tuple[Argument, ...]] = ("", "")


class ValkeyAuditLog:
    """The AuditLog port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: Reads, functions: Functions) -> None:
        """`connection` reads rows, so that long reads delay nothing else."""
        self._connection = connection
        self._functions = functions
        self._names = functions.names

    async def state(self) -> AuditState:
        now_ms, head, mac, checkpoint = await self._functions.read("audit_state", ())
        return AuditState(now_ms, _document(head, mac), checkpoint.decode(errors="replace"))

    async def append(self, extension: ChainExtension) -> AuditAppended:
        arguments = _arguments(extension)
        stored, now_ms, head, mac = await self._functions.call("audit_append", arguments, len(extension.rows))
        return AuditAppended(stored == 1, now_ms, _document(head, mac))

    async def rows(self, origin: str, segment: int, after: int, count: int) -> Sequence[NumberedRow]:
        key = self._in_chain(keys.AUDIT_SEGMENT, origin, segment=segment)
        return _rows(await self._connection.call("XRANGE", key, f"({after}-0", "+", "COUNT", count))

    async def rows_before(self, origin: str, segment: int, before: int, count: int) -> Sequence[NumberedRow]:
        key = self._in_chain(keys.AUDIT_SEGMENT, origin, segment=segment)
        return _rows(await self._connection.call("XREVRANGE", key, f"({before}-0", "-", "COUNT", count))

    async def manifests(self, origin: str) -> Mapping[int, Authenticated]:
        reply = await self._connection.call("HGETALL", self._in_chain(keys.AUDIT_MANIFESTS, origin))
        found: dict[int, Authenticated] = {}
        for number, stored in zip(reply[::2], reply[1::2], strict=True):
            mac, _, data = stored.partition(b" ")
            if number.isdigit():
                found[int(number)] = Authenticated(data, mac.decode(errors="replace"))
        return found

    def _in_chain(self, name: str, origin: str, **parts: int) -> str:
        return self._names(name, chain=_chain_id(origin), **parts)

    async def swap_settings(self, digests: Mapping[str, str]) -> Mapping[str, str] | None:
        key = self._names(keys.AUDIT_SETTINGS)
        before = await self._connection.call("SET", key, json.dumps(dict(digests), sort_keys=True), "GET")
        try:
            return dict(json.loads(before)) if before is not None else None
        except (ValueError, TypeError):
            return {}


def _arguments(extension: ChainExtension) -> list[Argument]:
    head = extension.head
    manifest = extension.manifest
    closed = _NO_MANIFEST if manifest is None else (manifest[0], manifest[1].data, manifest[1].mac)
    dropped = (extension.unlink[0], extension.unlink[-1]) if extension.unlink else _DROP_NOTHING
    arguments: list[Argument] = [
        extension.before.mac if extension.before is not None else "",
        extension.stored_head.data,
        extension.stored_head.mac,
        _chain_id(head.origin),
        head.segment.number,
        head.seq - len(extension.rows) + 1,
        *closed,
        *dropped,
        extension.checkpoint.text if extension.checkpoint is not None else "",
    ]
    for row in extension.rows:
        arguments += (row.data, row.mac)
    return arguments


def _chain_id(origin: str) -> str:
    return origin.rpartition("/")[2]


def _document(data: bytes, mac: bytes) -> Authenticated | None:
    return Authenticated(data, mac.decode(errors="replace")) if mac else None


def _rows(entries: Sequence[Any]) -> list[NumberedRow]:
    return [_row(entry_id, fields) for entry_id, fields in entries]


def _row(entry_id: bytes, fields: Sequence[bytes]) -> NumberedRow:
    """Missing fields are empty, which verification reports."""
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    row = StoredRow(named.get(b"row", b""), named.get(b"mac", b"").decode(errors="replace"))
    return NumberedRow(int(entry_id.partition(b"-")[0]), row)
