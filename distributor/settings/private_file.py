"""A file that only its user may read, changed as a whole."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from distributor.errors import ConfigurationError

MAX_BYTES: Final = 1_048_576
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class PrivateFile:
    """A small text file (mode 0600) in a folder (mode 0700) of the user who runs the process."""

    def __init__(self, path: Path, reason: str) -> None:
        """`reason` is that of the errors, which are ConfigurationErrors."""
        self.path = path
        self._reason = reason

    def read(self) -> str | None:
        """Return the text, None if there is no file.

        Raises ConfigurationError if it cannot be read, is not ours, or others may read it or replace it.
        """
        try:
            # Not following links, and not waiting for the writer of a pipe.
            opened = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(f"cannot read {self.path}: {error.strerror}") from error
        try:
            self._check_file(os.fstat(opened))
            self._check_folder()
            data = os.read(opened, MAX_BYTES + 1)
        finally:
            os.close(opened)
        if len(data) > MAX_BYTES:
            raise self._error(f"{self.path} is over {MAX_BYTES:,} bytes")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self._error(f"{self.path} is not UTF-8") from error

    def write(self, text: str) -> None:
        """Replace the file at once: after a crash, it has the old or the new text. Raises ConfigurationError."""
        temporary = ""
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise self._error(f"cannot write {self.path}: {error.strerror}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if there is none, and keep other processes from changing the file meanwhile.

        Raises ConfigurationError.
        """
        folder = self.path.parent
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(f"cannot use the folder {folder}: {error.strerror}") from error
        try:
            self._check_folder()
            fcntl.flock(opened, fcntl.LOCK_EX)
            yield
        finally:
            os.close(opened)

    def _check_file(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise self._error(f"{self.path} is not a file")
        if found.st_uid != os.geteuid():
            raise self._error(f"{self.path} belongs to another user (uid {found.st_uid}), so it is not used")
        if found.st_mode & _OTHERS:
            mode = stat.S_IMODE(found.st_mode)
            raise self._error(
                f"{self.path} holds credentials and other users may read or change it (mode {mode:04o}): "
                f"run chmod 600 {self.path}, and replace its tokens if others may have read them"
            )

    def _check_folder(self) -> None:
        folder = self.path.parent
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise self._error(f"{folder} belongs to another user (uid {found.st_uid}), so it is not used")
        if found.st_mode & _OTHERS_WRITE:
            mode = stat.S_IMODE(found.st_mode)
            raise self._error(f"other users may change what is in {folder} (mode {mode:04o}): run chmod 700 {folder}")

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, reason=self._reason)
