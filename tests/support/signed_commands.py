"""Commands signed with keys made for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from distributor.agent import SignaturePolicy
from distributor.client.signing import CommandSigner
from distributor.identity.signatures import Signer, TrustedSigner, TrustedSigners, new_signing_key
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import assignment


def new_signer() -> Signer:
    return Signer(new_signing_key())


def trusted(signer: Signer, *types: str) -> TrustedSigners:
    """An agent's trust in one key."""
    key: Any = load_pem_public_key(signer.public_pem())
    return TrustedSigners([TrustedSigner(key, types)])


def requiring(signer: Signer, *types: str) -> SignaturePolicy:
    """The policy of an agent that starts commands of these types, or of all, only if they are signed."""
    return SignaturePolicy(trusted(signer), types or ("*",))


def signed(
    signer: Signer, command_id: str, command_type: str = "WORK", validity: float = 60.0, **params: Any
) -> gateway.Assignment:
    """A signed command as a server assigns it."""
    made = assignment(command_id, command_type, **params)
    CommandSigner(signer, validity).sign(made.command)
    return made


def as_another(one: gateway.Assignment, command_id: str) -> gateway.Assignment:
    """The same signed command under another id, as a hostile server may assign it."""
    copy = gateway.Assignment()
    copy.CopyFrom(one)
    copy.command.command_id = command_id
    copy.lease_id = f"lease-{command_id}-1"
    return copy


def written_key(signer_pem: bytes, folder: Path) -> tuple[Path, Path]:
    """The files of a private key and of its public key."""
    private, public = folder / "key.pem", folder / "key.pub.pem"
    private.touch(0o600)
    private.write_bytes(signer_pem)
    public.write_bytes(Signer(signer_pem).public_pem())
    return private, public
