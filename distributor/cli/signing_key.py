"""`distributor signing-key`: make a key with which to sign commands."""

from __future__ import annotations

import os
from pathlib import Path

from distributor.errors import ConfigurationError
from distributor.identity.signatures import Signer, new_signing_key


def make_signing_key(path: Path) -> str:
    """Write a new private key to `path` (mode 0600) and its public key to `path` with `.pub.pem`; return its id.

    Raises ConfigurationError if one of the files exists or cannot be written.
    """
    pem = new_signing_key()
    signer = Signer(pem)
    _write(path, pem, 0o600)
    _write(public_path(path), signer.public_pem(), 0o644)
    return signer.key_id


def public_path(path: Path) -> Path:
    """Where the public key goes."""
    return path.with_name(f"{path.stem}.pub.pem")


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists; a key is never overwritten", reason="INVALID_SIGNING_KEY") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}", reason="INVALID_SIGNING_KEY") from error
    with os.fdopen(file, "wb") as opened:
        opened.write(content)
