"""The list of revocations in Valkey, which all replicas and bridges share."""

from __future__ import annotations

import json

from distributor.errors import FailedPrecondition, NotFound
from distributor.model.revocation import Revocation, RevocationList, RevokedKind
from distributor.observability.logging import get_logger
from distributor.store.functions import Functions

logger = get_logger()


class ValkeyRevocationStore:
    """The RevocationStore port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    async def changed_since(self, version: int) -> RevocationList | None:
        number, *entries = await self._functions.read("revocations", [version])
        if int(number) == version:
            return None
        pairs = zip(entries[::2], entries[1::2], strict=True)
        read = (_readable(field, text) for field, text in pairs)
        return RevocationList(int(number), [entry for entry in read if entry is not None])

    async def revoke(self, kind: RevokedKind, subject: str, revoked_by: str, reason: str) -> Revocation:
        text = await self._functions.call("revoke", [kind.value, subject, revoked_by, reason])
        return _revocation(f"{kind}:{subject}", text)

    async def restore_agent(self, agent_id: str) -> None:
        outcome = await self._functions.call("restore_agent", [agent_id])
        if outcome == b"unknown":
            raise NotFound(f"agent '{agent_id}' is not revoked", reason="NOT_REVOKED", field="agent_id")
        if outcome == b"replaced":
            raise FailedPrecondition(
                f"agent '{agent_id}' has enrolled again; its earlier certificates stay revoked",
                reason="AGENT_REPLACED",
                field="agent_id",
            )

    async def restore_service(self, name: str) -> None:
        if await self._functions.call("restore_service", [name]) == b"unknown":
            raise NotFound(f"service '{name}' is not revoked", reason="NOT_REVOKED", field="service")


def _readable(field: bytes, text: bytes) -> Revocation | None:
    """An entry; None for one that another version, or somebody else, has written. It must not hide the others."""
    try:
        return _revocation(field.decode(), text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        logger.error("a revocation in Valkey cannot be read and has no effect", entry=repr(field[:200]))
        return None


def _revocation(field: str, text: bytes) -> Revocation:
    kind, _, subject = field.partition(":")
    entry = json.loads(text)
    return Revocation(
        RevokedKind(kind),
        subject,
        int(entry["revoked_ms"]),
        int(entry["generation"]),
        entry["revoked_by"],
        entry["reason"],
    )
