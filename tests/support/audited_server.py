"""A server that keeps an audit trail, callers that it knows, and the rows that it wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from distributor.app.audit_key_file import AuditKeyFile, add_key
from distributor.identity.audit_head import ChainHead
from distributor.identity.audit_keys import AuditKeyRing
from distributor.identity.audit_rows import read
from distributor.identity.audit_verification import AuditVerification
from distributor.model.audit_entry import AuditEvent, AuditRow
from distributor.model.audit_verdict import AuditVerdicts
from distributor.store.audit_log import ValkeyAuditLog
from distributor.store.connections import StoreConnections
from distributor.store.functions import Functions
from tests.support.known_callers import ADMIN, AGENT, OPERATOR, VIEWER, KnownCallers
from tests.support.running_server import RunningServer, running_server
from tests.support.waiting import eventually

CALLERS = KnownCallers(VIEWER, OPERATOR, ADMIN, AGENT)


class StoredTrail:
    """Reads the trail of a Valkey, as somebody does who has the key file."""

    def __init__(self, connections: StoreConnections, key_file: Path) -> None:
        self.log = ValkeyAuditLog(connections.reads, Functions(connections.functions))
        self.connection = connections.reads
        self.key_file = key_file

    @property
    def keys(self) -> AuditKeyRing:
        return AuditKeyFile(self.key_file).keys()

    async def head(self) -> ChainHead:
        """The head; there must be one."""
        state = await self.log.state()
        assert state.head is not None
        return ChainHead.read(state.head, self.keys)

    async def rows(self, event: AuditEvent | None = None) -> list[AuditRow]:
        """All rows that are kept, or those of one kind, oldest first."""
        if (await self.log.state()).head is None:
            return []
        head = await self.head()
        found: list[AuditRow] = []
        for segment in range(head.first_segment, head.segment.number + 1):
            rows = await self.log.rows(head.origin, segment, 0, 100_000)
            found += [read(one.row.data, segment).row for one in rows]
        return [row for row in found if event in (None, row.entry.event)]

    async def until(self, event: AuditEvent, wanted: Callable[[AuditRow], bool] = lambda row: True) -> AuditRow:
        """The first row of a kind that is as wanted, once it is written."""

        async def probe() -> AuditRow | None:
            return next((row for row in await self.rows(event) if wanted(row)), None)

        return await eventually(probe)

    async def verify(self) -> AuditVerdicts:
        """The verdicts on what is stored."""
        state = await self.log.state()
        verification = AuditVerification(self.keys, state.now_ms)
        verification.begin(state.head, await self.log.manifests((await self.head()).origin))
        for segment in verification.segments:
            verification.add(segment, await self.log.rows((await self.head()).origin, segment, 0, 100_000))
            verification.end_segment(segment)
        return verification.verdicts()


@asynccontextmanager
async def stored_trail(valkey_url: str, key_file: Path) -> AsyncIterator[StoredTrail]:
    """The trail of a Valkey."""
    connections = StoreConnections.to(valkey_url)
    try:
        yield StoredTrail(connections, key_file)
    finally:
        await connections.close()


@asynccontextmanager
async def audited_server(valkey_url: str, key_file: Path, **changes: Any) -> AsyncIterator[RunningServer]:
    """A server with an audit trail, which knows CALLERS unless `changes` name others."""
    if not key_file.exists():
        add_key(key_file, "k1")
    settings: dict[str, Any] = {"audit": "auto", "audit_key_file": key_file, "authenticator": CALLERS, **changes}
    async with running_server(valkey_url, **settings) as server:
        yield server
