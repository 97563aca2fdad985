"""Files that only their owner may read: replaced as a whole, or made and never overwritten.

Both ways give a file mode 0600 from its first byte, whatever the umask and the mode of a file before it; follow no
symbolic link; and return once the file is on the disk. A write that fails leaves what was there, and nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from distributor.errors import ConfigurationError

MAX_BYTES: Final = 1_048_576
PRIVATE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_REMEDIES: Final = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "its user has used up the quota of the disk",
    errno.EACCES: "its folder must be writable by this user",
    errno.EPERM: "its folder must be writable by this user",
    errno.EROFS: "choose a folder on a file system that is writable",
    errno.ENOENT: "make its folder first",
}


class NewFile(NamedTuple):
    """A file to make, with its mode less the umask."""

    path: Path
    content: bytes
    mode: int = PRIVATE


class PrivateFile:
    """A small file (mode 0600). All errors are ConfigurationErrors with the given reason and field."""

    def __init__(self, path: Path, *, reason: str = "", field: str = "") -> None:
        self.path = path
        self._reason = reason
        self._field = field

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

    def replace(self, content: bytes) -> None:
        """Replace the file, or make it: after a crash, it has the old or the new content. Raises ConfigurationError.

        A symbolic link is replaced itself; the file that it names stays as it is.
        """
        try:
            replace_file(self.path, content)
        except OSError as error:
            raise _cannot_write(self.path, error, self._reason, self._field) from error

    def create(self, content: bytes) -> None:
        """Make the file. Raises ConfigurationError if its name is taken, be it by a symbolic link to nothing."""
        create_files(NewFile(self.path, content), reason=self._reason, field=self._field)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if there is none, and keep other processes from changing the file meanwhile.

        Raises ConfigurationError.
        """
        folder = self.path.parent
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
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
        if open_to_others(found):
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
        return ConfigurationError(message, reason=self._reason, field=self._field)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file as PrivateFile does. Raises OSError, for callers with remedies of their own."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with ExitStack() as undo:
        _write_new(NewFile(temporary, content))
        undo.callback(temporary.unlink, missing_ok=True)
        temporary.replace(path)
        _sync_folder(path.parent)


def create_files(*files: NewFile, reason: str = "", field: str = "") -> None:
    """Make files, all or none. Raises ConfigurationError with this reason and field, also if one of them exists."""
    with ExitStack() as undo:
        for file in files:
            try:
                _write_new(file)
                undo.callback(file.path.unlink, missing_ok=True)
                _sync_folder(file.path.parent)
            except FileExistsError as error:
                raise ConfigurationError(
                    f"{file.path} exists and is never overwritten: remove it, or choose another name",
                    reason=reason,
                    field=field,
                ) from error
            except OSError as error:
                raise _cannot_write(file.path, error, reason, field) from error
        undo.pop_all()


def make_private_folder(folder: Path, *, reason: str = "", field: str = "") -> None:
    """Make a folder that only its owner can use (mode 0700), or make one so. Raises ConfigurationError."""
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        folder.chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise _cannot_write(folder, error, reason, field) from error


def open_to_others(found: os.stat_result) -> bool:
    """Whether anyone but the owner may read, change or execute a file."""
    return bool(found.st_mode & _OTHERS)


def _write_new(file: NewFile) -> None:
    """Write a new file to the disk. It is removed if that fails. Raises OSError."""
    descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(file.content)
            opened.flush()
            os.fsync(opened.fileno())
    except BaseException:
        file.path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Write a folder to the disk, and with it the names of its files."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _cannot_write(path: Path, error: OSError, reason: str, field: str) -> ConfigurationError:
    remedy = _REMEDIES.get(error.errno or 0)
    text = f"cannot write {path}: {error.strerror}" + (f"; {remedy}" if remedy else "")
    return ConfigurationError(text, reason=reason, field=field)
