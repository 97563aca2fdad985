"""Assembles the audit trail of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

import distributor
from distributor.app.audit_key_file import AuditKeyFile, add_key
from distributor.app.lifespan import Loop
from distributor.dispatch.audit_pruning import AuditPruning
from distributor.dispatch.audit_reading import AuditReading
from distributor.dispatch.audit_recorder import AuditRecorder
from distributor.dispatch.audit_shares import AuditShares
from distributor.dispatch.audit_witnesses import AuditWitnesses
from distributor.dispatch.ports import AuditLog
from distributor.errors import ConfigurationError
from distributor.identity.audit_chain import ChainPolicy
from distributor.identity.audit_retention import AuditRetention
from distributor.identity.settings_digest import changed_names, digest_of, setting_digests
from distributor.model.audit_entry import AuditEntry, AuditEvent
from distributor.observability.logging import get_logger
from distributor.observability.metrics import Metrics
from distributor.settings import ServerSettings

logger = get_logger()

KEY_FILE_NAME: Final = "audit.key"
FIRST_KEY_ID: Final = "first"
SEGMENTS_KEPT: Final = 10
"""Full segments in each bound of what is kept: by how little more than the bound may be pruned."""
MAX_SEGMENT_ROWS: Final = 50_000
MAX_SEGMENT_BYTES: Final = 33_554_432


@dataclass(frozen=True, slots=True)
class AuditParts:
    """The parts of the audit trail. `loops` are its background loops by name."""

    log: AuditLog
    keys: AuditKeyFile
    recorder: AuditRecorder
    reading: AuditReading
    witnesses: AuditWitnesses
    loops: Mapping[str, Loop]
    settings: ServerSettings

    def last_checkpoint(self) -> str:
        """The last checkpoint of the trail, "" if there is none yet."""
        return self.recorder.checkpoint

    async def begin(self) -> None:
        """Record that the server starts, and which settings have changed. Raises Unavailable if that is impossible."""
        digests = setting_digests(setting_values(self.settings), self.keys.keys().current)
        digest = digest_of(digests)
        details = {"settings": digest, "version": distributor.__version__}
        await self.recorder.write(AuditEntry(AuditEvent.SERVER_STARTED, details=details))
        before = await self.log.swap_settings(digests)
        changed = changed_names(before, digests) if before is not None else []
        if changed:
            details = {"settings": digest, "changed": ",".join(changed)}
            await self.recorder.write(AuditEntry(AuditEvent.SETTINGS_CHANGED, count=len(changed), details=details))

    async def end(self) -> None:
        """Record that the server stops, and write waiting entries."""
        self.recorder.note(AuditEntry(AuditEvent.SERVER_STOPPED))
        await self.recorder.close()


def audit_parts(log: AuditLog, settings: ServerSettings, metrics: Metrics, *, authenticated: bool) -> AuditParts | None:
    """Assemble the audit trail; None if it is off. Raises ConfigurationError without a usable key file."""
    if settings.audit == "off" or (settings.audit == "auto" and not authenticated):
        return None
    keys = AuditKeyFile(key_path(settings))
    keys.keys()
    shares = AuditShares(settings.audit_max_rows, settings.audit_retention)
    recorder = AuditRecorder(log, keys.keys, metrics, chain_policy(settings), shares)
    retention = AuditRetention(
        round(settings.audit_retention * 1_000), settings.audit_max_rows, settings.audit_max_bytes
    )
    pruning = AuditPruning(log, recorder, keys.keys, retention)
    witnesses = AuditWitnesses(log, recorder, keys.keys)
    reading = AuditReading(log, keys.keys, witnesses.remembered)
    loops: dict[str, Loop] = {
        "audit trail": recorder.run,
        "audit pruning": pruning.run,
        "audit witnesses": witnesses.run,
    }
    return AuditParts(log, keys, recorder, reading, witnesses, loops, settings)


def key_path(settings: ServerSettings) -> Path:
    """The key file, which is made for an embedded Valkey. Raises ConfigurationError if one must be set."""
    if settings.audit_key_file is not None:
        return settings.audit_key_file
    if settings.valkey_url:
        raise ConfigurationError(
            "the audit trail needs audit_key_file, the same for all servers on this Valkey: make one with "
            "`distributor audit new-key FILE`, or set audit to off",
            field="audit_key_file",
            reason="AUDIT_KEY_REQUIRED",
        )
    path = settings.data_dir / KEY_FILE_NAME
    if not path.exists():
        add_key(path, FIRST_KEY_ID)
        logger.info("made a key for the audit trail", file=str(path))
    return path


def chain_policy(settings: ServerSettings) -> ChainPolicy:
    """When segments are closed and checkpoints made."""
    return ChainPolicy(
        segment_rows=min(MAX_SEGMENT_ROWS, settings.audit_max_rows // SEGMENTS_KEPT),
        segment_bytes=min(MAX_SEGMENT_BYTES, settings.audit_max_bytes // SEGMENTS_KEPT),
        checkpoint_ms=round(settings.audit_checkpoint_interval * 1_000),
    )


def setting_values(settings: ServerSettings) -> dict[str, Any]:
    """All settings by name, secrets in plain: only for digests."""
    values = settings.model_dump()
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()}
