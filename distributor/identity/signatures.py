"""End-to-end signatures of commands: the sender signs, the agent verifies, and nothing in between can.

Ed25519 (RFC 8032) over the canonical form of a `SignedContent`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from distributor.errors import ConfigurationError
from distributor.model.signed_content import SignedContent
from distributor.private_file import open_to_others

MAX_VALIDITY_SECONDS: Final = 31 * 86_400
"""Agents remember each signature until it expires, so none may be valid for ever."""
_MAX_KEY_FILE_BYTES: Final = 65_536


class Signer:
    """A private key that signs commands."""

    def __init__(self, pem: bytes, source: str = "the signing key") -> None:
        """Raises ConfigurationError unless `pem` is an unencrypted Ed25519 private key."""
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _bad_key(source, "is not an unencrypted private key in PEM") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _bad_key(source, "must be an Ed25519 key")
        self._key = key
        self.key_id = key_id_of(key.public_key())

    @classmethod
    def from_file(cls, path: Path) -> Signer:
        """Read a key. Raises ConfigurationError, also if others may read the file."""
        try:
            readable_by_others = open_to_others(path.stat())
            pem = _read(path)
        except OSError as error:
            raise _bad_key(str(path), f"cannot be read: {error.strerror}") from error
        if readable_by_others:
            raise _bad_key(str(path), "can be read by others; chmod 600 it")
        return cls(pem, str(path))

    def sign(self, content: SignedContent) -> bytes:
        """Return the signature, 64 bytes."""
        return self._key.sign(content.canonical())

    def public_pem(self) -> bytes:
        """The public key, for the agents that are to trust it."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def new_signing_key() -> bytes:
    """Make a private key in PEM (PKCS 8), the form that `openssl genpkey -algorithm ed25519` makes too."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_id_of(key: Ed25519PublicKey) -> str:
    """The id of a key: the first 32 hexadecimal digits of the SHA-256 of its 32 bytes."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class TrustedSigner:
    """A public key, and patterns of the command types that it may sign; none for all."""

    key: Ed25519PublicKey
    types: tuple[str, ...] = ()

    @property
    def key_id(self) -> str:
        """The id of the key."""
        return key_id_of(self.key)


class SignatureRefused(Exception):
    """A signature is not accepted. `code` is the reason code, `str()` a sentence without content of the command."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TrustedSigners:
    """The keys that an agent trusts. Immutable."""

    def __init__(self, signers: Iterable[TrustedSigner] = ()) -> None:
        self._signers = {signer.key_id: signer for signer in signers}

    def __len__(self) -> int:
        return len(self._signers)

    def verify(self, content: SignedContent, value: bytes, now_ms: int) -> None:
        """Raise SignatureRefused unless a trusted key has signed this content, and it has not expired.

        Takes 0.2 ms, and longer for large params.
        """
        signer = self._signers.get(content.key_id)
        if signer is None or (signer.types and not any(fnmatchcase(content.type, one) for one in signer.types)):
            raise SignatureRefused("signer_unknown", f"this agent trusts no key {content.key_id[:32]!a} for this type")
        try:
            signer.key.verify(value, content.canonical())
        except (InvalidSignature, ValueError) as error:
            raise SignatureRefused("signature_invalid", "the signature is not one of this command") from error
        if now_ms >= content.expires_ms:
            raise SignatureRefused("signature_expired", "the signature has expired, by this agent's clock")
        if content.expires_ms - now_ms > MAX_VALIDITY_SECONDS * 1_000:
            raise SignatureRefused(
                "signature_invalid", f"the signature is valid for more than {MAX_VALIDITY_SECONDS // 86_400} days"
            )


def load_trusted_signers(entries: Iterable[str], *, missing_ok: bool = False) -> TrustedSigners:
    """Read public keys. Each entry is a PEM file, or a folder of `*.pem`, and after a colon each a pattern of types.

    Raises ConfigurationError; with `missing_ok`, not for a file that does not exist or a folder without keys.
    """
    signers = []
    for entry in entries:
        name, *types = entry.split(":")
        files = [file for file in signer_paths(entry) if not missing_ok or file.exists()]
        if not files and not missing_ok:
            raise _bad_key(name, "has no *.pem files")
        signers += [TrustedSigner(_public_key(file), tuple(types)) for file in files]
    return TrustedSigners(signers)


def signer_paths(entry: str) -> list[Path]:
    """The files of an entry of `load_trusted_signers`."""
    path = Path(entry.partition(":")[0]).expanduser()
    return sorted(path.glob("*.pem")) if path.is_dir() else [path]


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(_read(path))
    except OSError as error:
        raise _bad_key(str(path), f"cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(str(path), "is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad_key(str(path), "must be an Ed25519 key")
    return key


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_KEY_FILE_BYTES)


def _bad_key(source: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{source} {problem}", reason="INVALID_SIGNING_KEY")
