"""Which files a sync flushes, and what a failed one means."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distributor.store.append_only_files import AppendOnlyFiles


class Disk:
    """Notes which files are flushed, and fails when told to."""

    def __init__(self) -> None:
        self.flushed: list[str] = []
        self.broken = False
        self.meanwhile: Callable[[], object] = lambda: None

    def fdatasync(self, descriptor: int) -> None:
        self.meanwhile()
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)
        self.flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)


def sync(files: AppendOnlyFiles) -> None:
    """Flush all that has changed."""
    for file in files.changed():
        try:
            files.flush(file)
        finally:
            os.close(file.descriptor)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def files(tmp_path: Path, disk: Disk) -> AppendOnlyFiles:
    return AppendOnlyFiles(tmp_path, disk.fdatasync)


def append(folder: Path, number: int, data: bytes = b"x") -> str:
    """Append to an incremental file, as Valkey does; returns its name."""
    name = f"appendonly.aof.{number}.incr.aof"
    with (folder / name).open("ab") as file:
        file.write(data)
    return name


def test_only_files_that_have_changed_are_flushed(tmp_path: Path, files: AppendOnlyFiles, disk: Disk) -> None:
    (tmp_path / "appendonly.aof.1.base.rdb").touch()
    (tmp_path / "appendonly.aof.manifest").touch()
    name = append(tmp_path, 1)
    sync(files)
    sync(files)
    assert disk.flushed == [name]
    append(tmp_path, 1)
    sync(files)
    assert disk.flushed == [name, name]


def test_what_is_written_during_a_flush_is_flushed_by_the_next(
    tmp_path: Path, files: AppendOnlyFiles, disk: Disk
) -> None:
    name = append(tmp_path, 1)
    disk.meanwhile = lambda: append(tmp_path, 1)
    sync(files)
    disk.meanwhile = lambda: None
    sync(files)
    assert disk.flushed == [name, name]


def test_during_a_rewrite_both_files_are_flushed(tmp_path: Path, files: AppendOnlyFiles, disk: Disk) -> None:
    old = append(tmp_path, 1)
    sync(files)
    append(tmp_path, 1)
    new = append(tmp_path, 2)
    sync(files)
    assert disk.flushed[1:] == [old, new]
    (tmp_path / old).unlink()
    append(tmp_path, 2)
    sync(files)
    assert disk.flushed[3:] == [new]
    assert len(files._open) == 1


def test_after_a_failure_nothing_is_believed_until_the_file_is_replaced(
    tmp_path: Path, files: AppendOnlyFiles, disk: Disk
) -> None:
    old = append(tmp_path, 1)
    disk.broken = True
    with pytest.raises(OSError, match="Input/output error"):
        sync(files)
    # The kernel has dropped the data that it could not write, so a flush would succeed now.
    disk.broken = False
    files.close()
    append(tmp_path, 1)
    new = append(tmp_path, 2)
    with pytest.raises(OSError, match="Input/output error"):
        sync(files)
    (tmp_path / old).unlink()
    sync(files)
    assert disk.flushed[-1] == new


def test_a_flush_that_waited_behind_a_failed_one_fails_as_well(
    tmp_path: Path, files: AppendOnlyFiles, disk: Disk
) -> None:
    append(tmp_path, 1)
    (first,) = files.changed()
    append(tmp_path, 1)
    (second,) = files.changed()
    disk.broken = True
    with pytest.raises(OSError, match="Input/output error"):
        files.flush(first)
    disk.broken = False
    with pytest.raises(OSError, match="Input/output error"):
        files.flush(second)
    assert not disk.flushed
    for file in (first, second):
        os.close(file.descriptor)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AppendOnlyFiles(tmp_path / "nowhere").changed()


def test_no_descriptor_stays_open(tmp_path: Path, files: AppendOnlyFiles) -> None:
    before = len(os.listdir("/proc/self/fd"))
    append(tmp_path, 1)
    sync(files)
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before
