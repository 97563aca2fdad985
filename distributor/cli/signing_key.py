"""`distributor signing-key`: make a key that signs commands."""

from __future__ import annotations

from pathlib import Path

from distributor.identity.signatures import Signer, new_signing_key
from distributor.private_file import NewFile, create_files


def make_signing_key(path: Path) -> str:
    """Write a new private key to `path` (mode 0600) and its public key to `path` with `.pub.pem`; return its id.

    Raises ConfigurationError if one of the files exists or cannot be written.
    """
    pem = new_signing_key()
    signer = Signer(pem)
    public = NewFile(public_path(path), signer.public_pem(), 0o644)
    create_files(NewFile(path, pem), public, reason="INVALID_SIGNING_KEY")
    return signer.key_id


def public_path(path: Path) -> Path:
    """Where the public key goes."""
    return path.with_name(f"{path.stem}.pub.pem")
