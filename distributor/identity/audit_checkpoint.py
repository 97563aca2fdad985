"""Signed checkpoints of the audit trail: how long it was, and the Merkle root of its rows.

The form is that of C2SP tlog-checkpoint and signed-note, so that other tools can read and verify them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from distributor.identity.audit_keys import AuditKey, AuditKeyRing, is_signature

MAX_CHECKPOINT_BYTES: Final = 1_024
_FORM: Final = re.compile(
    r"(?P<body>(?P<origin>[!-~]{1,100})\n(?P<size>0|[1-9][0-9]{0,15})\n(?P<root>[A-Za-z0-9+/]{43}=)\n)"
    r"\n— (?P<name>[!-~]{1,140}) (?P<signature>[A-Za-z0-9+/]{90,91}={0,2})\n"
)
_ED25519: Final = b"\1"


@dataclass(frozen=True, slots=True)
class AuditCheckpoint:
    """The size and the Merkle root of a chain at one time. `origin` names the chain, `text` is the signed form."""

    origin: str
    size: int
    root: bytes
    text: str = ""


def signed(origin: str, size: int, root: bytes, key: AuditKey) -> AuditCheckpoint:
    """Make a checkpoint, signed as `origin+key id`."""
    body = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    name = _signer_name(origin, key.key_id)
    signature = _key_hash(name, key.public) + key.sign(body.encode())
    return AuditCheckpoint(origin, size, root, f"{body}\n— {name} {base64.b64encode(signature).decode()}\n")


def parsed(text: str) -> AuditCheckpoint | None:
    """Parse a checkpoint without verifying its signature; None if it is malformed."""
    found = _FORM.fullmatch(text) if len(text.encode(errors="replace")) <= MAX_CHECKPOINT_BYTES else None
    if found is None:
        return None
    return AuditCheckpoint(found["origin"], int(found["size"]), base64.b64decode(found["root"]), text)


def is_ours(checkpoint: AuditCheckpoint, ring: AuditKeyRing) -> bool | None:
    """Whether a key of the ring has signed the text. None if it names a key that the ring does not have."""
    found = _FORM.fullmatch(checkpoint.text)
    if found is None:
        return False
    for key in ring.keys:
        if found["name"] == _signer_name(found["origin"], key.key_id):
            return _verified(found, key)
    return None


def _verified(found: re.Match[str], key: AuditKey) -> bool:
    try:
        signature = base64.b64decode(found["signature"], validate=True)
    except binascii.Error:
        return False
    expected = _key_hash(found["name"], key.public)
    return signature[:4] == expected and is_signature(key.public, signature[4:], found["body"].encode())


def _signer_name(origin: str, key_id: str) -> str:
    return f"{origin}/{key_id}"


def _key_hash(name: str, public: bytes) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + _ED25519 + public).digest()[:4]
