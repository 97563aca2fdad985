"""What the signature of a command covers, and the bytes that are signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from distributor.model.canonical_json import canonical_json
from distributor.model.json_value import JsonValue

PURPOSE: Final = "command-distributor/command/1"
"""Part of what is signed: a signature made with the same key for something else is none of a command."""


@dataclass(frozen=True, slots=True)
class SignedContent:
    """What a signature covers. `expires_ms` is in milliseconds since the epoch."""

    signature_id: str
    key_id: str
    agent_id: str
    type: str
    params: Mapping[str, JsonValue]
    expires_ms: int

    def canonical(self) -> bytes:
        """The bytes that are signed. Raises ValueError for params that are not JSON."""
        return canonical_json(
            {
                "agentId": self.agent_id,
                "expireTimeMs": self.expires_ms,
                "keyId": self.key_id,
                "params": self.params,
                "purpose": PURPOSE,
                "signatureId": self.signature_id,
                "type": self.type,
            }
        )
