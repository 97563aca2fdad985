"""Keys of the audit trail: they authenticate rows, and sign checkpoints."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from distributor.errors import ConfigurationError

KEY_BYTES: Final = 32
MAX_KEYS: Final = 100
_KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True)
class AuditKey:
    """One secret with its id. The secret never leaves this object."""

    key_id: str
    secret: bytes = field(repr=False)

    def mac(self, label: bytes, data: bytes) -> str:
        """HMAC-SHA256 as 43 characters of base64url; `label` separates uses of the key."""
        return text_of(hmac.digest(self.secret, label + b"\0" + data, hashlib.sha256))

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of a message."""
        return self._signer.sign(message)

    @cached_property
    def public(self) -> bytes:
        """The raw Ed25519 public key, 32 bytes."""
        return self._signer.public_key().public_bytes_raw()

    @cached_property
    def _signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hmac.digest(self.secret, b"sign checkpoints", hashlib.sha256))


class AuditKeyRing:
    """The keys in the order of their age; the last one is the current one."""

    def __init__(self, keys: Iterable[AuditKey]) -> None:
        """Raises ConfigurationError if there is none, or an id appears twice."""
        self.keys = tuple(keys)
        self._by_id = {key.key_id: key for key in self.keys}
        if not self.keys or len(self._by_id) != len(self.keys):
            raise _invalid("must have at least one key, and each key id once")

    @property
    def current(self) -> AuditKey:
        """The youngest key."""
        return self.keys[-1]

    def get(self, key_id: str) -> AuditKey | None:
        """The key with this id; None if it is not here."""
        return self._by_id.get(key_id)

    def key(self, key_id: str) -> AuditKey:
        """The key with this id. Raises MissingAuditKey."""
        key = self._by_id.get(key_id)
        if key is None:
            raise MissingAuditKey(key_id)
        return key

    @classmethod
    def parse(cls, text: str) -> AuditKeyRing:
        """Read a key file: a line `ID SECRET` for each key, oldest first. Raises ConfigurationError without secrets."""
        keys = []
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        for number, line in enumerate(lines, start=1):
            key_id, _, encoded = line.strip().partition(" ")
            try:
                secret = bytes_of(encoded.strip())
            except ValueError:
                secret = b""
            if not _KEY_ID.fullmatch(key_id) or len(secret) != KEY_BYTES:
                raise _invalid(f"key {number} must be an id and {KEY_BYTES} bytes in base64url")
            keys.append(AuditKey(key_id, secret))
        if len(keys) > MAX_KEYS:
            raise _invalid(f"holds more than {MAX_KEYS} keys")
        return cls(keys)


class MissingAuditKey(ConfigurationError):
    """The chain continues with a key that this server does not have."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"the audit trail goes on under the key {key_id[:32]!r}, which audit_key_file lacks; copy the file of the "
            "server that rotated the key",
            field="audit_key_file",
            reason="AUDIT_KEY_MISSING",
        )


def new_key_line(key_id: str) -> str:
    """A line of a key file with a new random secret. Raises ConfigurationError for an invalid id."""
    if not _KEY_ID.fullmatch(key_id):
        raise _invalid("a key id has 1 to 32 letters, digits, dots, dashes and underscores")
    return f"{key_id} {text_of(secrets.token_bytes(KEY_BYTES))}\n"


def is_signature(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature is valid."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def text_of(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bytes_of(text: str) -> bytes:
    """Decode `text_of`. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _invalid(problem: str) -> ConfigurationError:
    return ConfigurationError(f"audit_key_file: {problem}", field="audit_key_file", reason="AUDIT_KEY_INVALID")
