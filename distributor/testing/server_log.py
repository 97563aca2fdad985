"""Reads the log of a server, and finds in it where the server listens."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from typing import IO, Final

KEPT_LINES: Final = 20


class ServerLog:
    """Reads lines in a thread until the writers have closed `target`, which is theirs to write to."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self.target: IO[bytes] = os.fdopen(write, "wb")
        self.address = ""
        """Where the server listens; empty until it does, and if it has ended without."""
        self._source = os.fdopen(read, encoding="utf-8", errors="replace")
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._decided = threading.Event()
        self._thread = threading.Thread(target=self._read, name="log of the server for tests", daemon=True)
        self._thread.start()

    def wait_for_address(self, seconds: float) -> str:
        """Wait until the server listens or has ended; return the address, empty if there is none."""
        self._decided.wait(seconds)
        return self.address

    def close(self) -> None:
        """Wait for the end of the log."""
        self._thread.join()

    @property
    def text(self) -> str:
        """The last lines."""
        return "\n".join(self._last)

    def _read(self) -> None:
        with self._source:
            for line in self._source:
                self._last.append(line.rstrip("\n"))
                self.address = self.address or _address(line)
                if self.address:
                    self._decided.set()
        self._decided.set()


def _address(line: str) -> str:
    try:
        fields = json.loads(line)
    except ValueError:
        return ""
    serves = isinstance(fields, dict) and fields.get("event") == "serving"
    return str(fields["grpc"]) if serves else ""
