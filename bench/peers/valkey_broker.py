"""The Valkey of a peer: the same program and settings as the embedded Valkey of this project."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from distributor.store.embedded import EmbeddedValkey


class ValkeyBroker(EmbeddedValkey):
    """A Valkey with an append-only file, synced every second, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)

    @property
    def role(self) -> dict[str, int]:
        """Its process id, by role."""
        assert self.pid is not None
        return {"valkey": self.pid}

    @property
    def environment(self) -> dict[str, str]:
        """Its address, for a child process."""
        parts = urlsplit(self.url)
        return {
            "PEER_VALKEY_URL": self.url,
            "PEER_VALKEY_SOCKET": unquote(parts.path),
            "PEER_VALKEY_PASSWORD": parts.password or "",
        }
