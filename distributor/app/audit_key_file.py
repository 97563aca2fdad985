"""The file with the keys of the audit trail, which is read again when it changes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from distributor.errors import ConfigurationError
from distributor.identity.audit_keys import AuditKeyRing, new_key_line
from distributor.private_file import PrivateFile, open_to_others

FIELD: Final = "audit_key_file"
REASON: Final = "AUDIT_KEY_INVALID"
LOOK_SECONDS: Final = 2.0
"""How long a changed file may go unnoticed."""
FIRST_LINE: Final = "# Keys of the audit trail, oldest first. Keep all of them: old rows are verified with old keys.\n"


class AuditKeyFile:
    """Reads the keys. Raises ConfigurationError for a file that others may read, or that is not a key file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ring: AuditKeyRing | None = None
        self._version: tuple[int, int, int] | None = None
        self._next_look = 0.0

    def keys(self) -> AuditKeyRing:
        """The keys as the file has them now."""
        now = time.monotonic()
        if self._ring is None or now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._read()
        assert self._ring is not None
        return self._ring

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                version = (status.st_mtime_ns, status.st_ino, status.st_size)
                if version == self._version:
                    return
                if open_to_others(status):
                    raise _invalid(f"{self.path} must be readable by its owner only: chmod 600 {self.path}")
                text = file.read(65_536).decode(errors="replace")
        except OSError as error:
            raise _invalid(f"cannot read {self.path}: {error.strerror}") from error
        self._ring, self._version = AuditKeyRing.parse(text), version


def add_key(path: Path, key_id: str) -> None:
    """Add a new key to a key file, which is made if it does not exist. Raises ConfigurationError."""
    try:
        before = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        before = FIRST_LINE
    except OSError as error:
        raise _invalid(f"cannot read {path}: {error.strerror}") from error
    if before and not before.endswith("\n"):
        before += "\n"
    text = before + new_key_line(key_id)
    AuditKeyRing.parse(text)
    # Replaced as a whole: a server may read it at any moment.
    PrivateFile(path, reason=REASON, field=FIELD).replace(text.encode())


def _invalid(problem: str) -> ConfigurationError:
    return ConfigurationError(f"{FIELD}: {problem}", field=FIELD, reason=REASON)
