"""Signs commands before they leave the sender."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from distributor.model.ids import RANDOM_BITS, CommandIdMint
from distributor.model.shards import BUCKETS
from distributor.v1 import command_pb2
from distributor.wire.signed_command import signed_content

if TYPE_CHECKING:
    # Slow to import, and needed only by those who sign.
    from distributor.identity.signatures import Signer

DEFAULT_VALIDITY_SECONDS: Final = 3_600.0


class CommandSigner:
    """Signs the commands of one client with one key. Safe for concurrent use on one event loop."""

    def __init__(self, signer: Signer, validity_seconds: float = DEFAULT_VALIDITY_SECONDS) -> None:
        """Agents start a command within `validity_seconds` of the signature, by their clock, or refuse it."""
        self._signer = signer
        self._validity_ms = round(validity_seconds * 1_000)
        self._mint = CommandIdMint()

    @classmethod
    def from_file(cls, key: Path, validity_seconds: float = DEFAULT_VALIDITY_SECONDS) -> Self:
        """Sign with a private key in a file. Raises ConfigurationError, also if others may read the file."""
        from distributor.identity.signatures import Signer

        return cls(Signer.from_file(key), validity_seconds)

    def sign(self, command: command_pb2.Command) -> None:
        """Put a new signature over agent, type and params into `command`."""
        now_ms = time.time_ns() // 1_000_000
        signature = command.signature
        signature.signature_id = self._mint.mint(now_ms, secrets.randbits(RANDOM_BITS), secrets.randbelow(BUCKETS))
        signature.key_id = self._signer.key_id
        expires_ms = now_ms + self._validity_ms
        signature.expire_time.seconds, signature.expire_time.nanos = expires_ms // 1_000, expires_ms % 1_000 * 1_000_000
        signature.value = self._signer.sign(signed_content(command))
