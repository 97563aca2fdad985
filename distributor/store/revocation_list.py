"""The list of revocations in Valkey, which all replicas and bridges share."""

from __future__ import annotations

import json

from distributor.errors import FailedPrecondition, NotFound
from distributor.model.revocation import Revocation, RevocationList, RevokedKind
from distributor.store.functions import Functions


class ValkeyRevocationStore:
    """The RevocationStore port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    async def changed_since(self, version: int) -> RevocationList | None:
        number, *entries = await self._functions.read("revocations", [version])
        if int(number) == version:
            return None
        pairs = zip(entries[::2], entries[1::2], strict=True)
        return RevocationList(int(number), [_revocation(field.decode(), text) for field, text in pairs])

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
