"""The state of the audit trail beside its rows: its head, and the manifests of closed segments."""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from distributor.errors import FailedPrecondition
from distributor.identity.audit_keys import AuditKey, AuditKeyRing, bytes_of, text_of
from distributor.identity.audit_rows import canonical
from distributor.identity.merkle_tree import MerkleTree

HEAD: Final = b"distributor audit head"
MANIFEST: Final = b"distributor audit manifest"
"""Labels of MACs."""


class AuditTampered(FailedPrecondition):
    """The stored audit trail was not written with its key."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A stored document and its MAC."""

    data: bytes
    mac: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the chain that is pruned as a whole. The open one grows."""

    number: int
    first_seq: int
    first_at_ms: int
    rows: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of the chain. `origin` names the chain; `mac` is that of the last row.

    Segments before `first_segment` are pruned. `manifest_mac` is that of the manifest of the last closed segment, ""
    if there is none. `anchored_seq` and `anchored_at_ms` are those of the row that records the last checkpoint.
    """

    origin: str
    seq: int
    at_ms: int
    mac: str
    key_id: str
    hashes: tuple[bytes, ...]
    segment: Segment
    first_segment: int = 1
    manifest_mac: str = ""
    anchored_seq: int = 0
    anchored_at_ms: int = 0

    def tree(self) -> MerkleTree:
        """The Merkle tree of all rows."""
        return MerkleTree(self.seq, self.hashes)

    def stored(self, key: AuditKey) -> Authenticated:
        """Encode and authenticate."""
        fields = {**asdict(self), "hashes": [text_of(one) for one in self.hashes], "key_id": key.key_id}
        data = canonical(fields)
        return Authenticated(data, key.mac(HEAD, data))

    @classmethod
    def read(cls, document: Authenticated, ring: AuditKeyRing) -> Self:
        """Decode and verify. Raises AuditTampered, and MissingAuditKey for a key that is not in the ring."""
        fields = _verified(document, HEAD, ring)
        fields["hashes"] = tuple(bytes_of(one) for one in fields["hashes"])
        fields["segment"] = Segment(**fields["segment"])
        return cls(**fields)

    @staticmethod
    def claimed_origin(document: Authenticated) -> str:
        """The origin that a head names, before it is verified; "" if it names none."""
        try:
            return str(json.loads(document.data)["origin"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a closed segment held. Kept for ever, to distinguish pruned segments from deleted ones.

    `hashes` are those of the Merkle tree after its last row; `previous` is the MAC of the manifest before.
    """

    number: int
    first_seq: int
    last_seq: int
    first_at_ms: int
    last_at_ms: int
    size_bytes: int
    last_mac: str
    hashes: tuple[bytes, ...]
    key_id: str
    previous: str

    def tree(self) -> MerkleTree:
        """The Merkle tree of all rows up to the last one of this segment."""
        return MerkleTree(self.last_seq, self.hashes)

    def stored(self, key: AuditKey) -> Authenticated:
        """Encode and authenticate."""
        fields = {**asdict(self), "hashes": [text_of(one) for one in self.hashes], "key_id": key.key_id}
        data = canonical(fields)
        return Authenticated(data, key.mac(MANIFEST, data))

    @classmethod
    def read(cls, document: Authenticated, ring: AuditKeyRing) -> Self:
        """Decode and verify. Raises AuditTampered, and MissingAuditKey for a key that is not in the ring."""
        fields = _verified(document, MANIFEST, ring)
        fields["hashes"] = tuple(bytes_of(one) for one in fields["hashes"])
        return cls(**fields)


def _verified(document: Authenticated, label: bytes, ring: AuditKeyRing) -> dict[str, Any]:
    try:
        fields = json.loads(document.data)
        key_id = str(fields["key_id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _tampered(label) from error
    if not hmac.compare_digest(ring.key(key_id).mac(label, document.data).encode(), document.mac.encode()):
        raise _tampered(label)
    return dict(fields)


def _tampered(label: bytes) -> AuditTampered:
    return AuditTampered(
        f"the stored {label.decode().removeprefix('distributor ')} was not written with an audit key",
        reason="AUDIT_TAMPERED",
    )
