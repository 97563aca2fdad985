"""Compresses what the server stores. Compression is off by default, and readers understand both forms."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from distributor.wire.compression import Compression, compressed
from distributor.wire.message_packer import Observe, unobserved


@dataclass(frozen=True, slots=True)
class AtRestObservers:
    """Where to count the bytes of each kind, before and after compression."""

    commands: Observe = unobserved
    results: Observe = unobserved
    output: Observe = unobserved


class AtRestPacker:
    """Compresses items of at least the threshold. Thread-safe: call it in a thread for large items."""

    def __init__(self, compression: Compression, observers: AtRestObservers | None = None) -> None:
        self.enabled: Final = compression.enabled
        self._threshold = max(1, compression.threshold_bytes)
        self._observers = observers or AtRestObservers()

    def command(self, encoded: bytes) -> bytes:
        """Return an encoded command as it is stored: gzip, or as it is. gzip needs no mark (see `is_gzip`)."""
        if not self.enabled or len(encoded) < self._threshold:
            return encoded
        packed = compressed(encoded) or encoded
        self._observers.commands(len(encoded), len(packed))
        return packed

    def result_data(self, data_json: str) -> str:
        """Return the JSON text of a result's data as gzip in base64; empty if it is to be stored as it is."""
        if not self.enabled or len(data_json) < self._threshold:
            return ""
        plain = data_json.encode()
        packed = compressed(plain)
        text = base64.b64encode(packed).decode() if packed else ""
        # base64 takes back a third of what gzip saves.
        if len(text) >= len(plain):
            text = ""
        self._observers.results(len(plain), len(text) or len(plain))
        return text

    def output(self, data: bytes) -> bytes:
        """Return output as gzip; empty if it is to be stored as it is."""
        if not self.enabled or len(data) < self._threshold:
            return b""
        packed = compressed(data) or b""
        self._observers.output(len(data), len(packed) or len(data))
        return packed


STORED_PLAIN: Final = AtRestPacker(Compression(enabled=False))
"""Compresses nothing."""
