"""What the signature of a command message covers."""

from __future__ import annotations

from distributor.model.signed_content import SignedContent
from distributor.v1 import command_pb2
from distributor.wire.json_values import plain_struct


def signed_content(command: command_pb2.Command) -> SignedContent:
    """The content that `command.signature` covers, read from the command. Takes longer for large params."""
    signature = command.signature
    return SignedContent(
        signature.signature_id,
        signature.key_id,
        command.agent_id,
        command.type,
        plain_struct(command.params),
        # Fractions of a millisecond are not part of it, and have no effect.
        signature.expire_time.seconds * 1_000 + signature.expire_time.nanos // 1_000_000,
    )
