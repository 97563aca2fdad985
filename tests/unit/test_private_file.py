"""Files with secrets: private from their first byte, replaced as a whole or never overwritten."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from distributor import private_file
from distributor.errors import ConfigurationError
from distributor.private_file import NewFile, PrivateFile, create_files, make_private_folder

Write: TypeAlias = Callable[[PrivateFile], None]

WRITES = {"replace": lambda file: file.replace(b"new"), "create": lambda file: file.create(b"new")}


@pytest.fixture(params=WRITES)
def write(request: pytest.FixtureRequest) -> Write:
    """Each way to write a file."""
    return WRITES[request.param]


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fail(monkeypatch: pytest.MonkeyPatch, call: str, number: int, allowed: int = 0) -> None:
    """Let a call of the operating system fail with an error number, but for the first ones that are `allowed`."""
    true, calls = getattr(os, call), iter(range(allowed))

    def failing(*arguments: Any) -> Any:
        if next(calls, None) is None:
            raise OSError(number, os.strerror(number))
        return true(*arguments)

    patch(monkeypatch, call, failing)


def patch(monkeypatch: pytest.MonkeyPatch, call: str, replacement: Callable[..., Any]) -> None:
    """Replace a call of the operating system in this module only: other threads write files, too."""
    monkeypatch.setattr(private_file, "os", SimpleNamespace(**{**vars(os), call: replacement}))


@pytest.mark.usefixtures("no_umask")
class TestMode:
    @pytest.fixture(autouse=True)
    def modes(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The modes of all files that are written, each before its first byte."""
        modes: list[int] = []
        fdopen = os.fdopen

        def noting(descriptor: int, *arguments: Any) -> Any:
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            return fdopen(descriptor, *arguments)

        patch(monkeypatch, "fdopen", noting)
        return modes

    def test_a_new_file_is_private_from_its_first_byte(self, tmp_path: Path, write: Write, modes: list[int]) -> None:
        path = tmp_path / "key"
        write(PrivateFile(path))
        assert modes == [0o600]
        assert mode_of(path) == 0o600
        assert path.read_bytes() == b"new"

    def test_nothing_is_written_to_a_file_that_others_have_opened(self, tmp_path: Path, modes: list[int]) -> None:
        path = tmp_path / "key"
        path.write_bytes(b"old")
        path.chmod(0o666)
        with path.open("rb") as opened:
            PrivateFile(path).replace(b"new")
            assert opened.read() == b"old"
        assert modes == [0o600]
        assert mode_of(path) == 0o600
        assert path.read_bytes() == b"new"

    def test_only_a_file_that_is_to_be_public_is(self, tmp_path: Path) -> None:
        create_files(NewFile(tmp_path / "key", b"1"), NewFile(tmp_path / "key.pub", b"2", 0o644))
        assert [mode_of(tmp_path / name) for name in ("key", "key.pub")] == [0o600, 0o644]

    def test_a_folder_is_private_even_if_it_was_not(self, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir(mode=0o777)
        for name in ("open", "new"):
            make_private_folder(tmp_path / name)
            assert mode_of(tmp_path / name) == 0o700


class TestLinks:
    def test_a_link_is_replaced_and_not_what_it_names(self, tmp_path: Path) -> None:
        path, target = tmp_path / "key", tmp_path / "target"
        target.write_bytes(b"old")
        path.symlink_to(target)
        PrivateFile(path).replace(b"new")
        assert not path.is_symlink()
        assert path.read_bytes() == b"new"
        assert target.read_bytes() == b"old"

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_new_file_is_not_made_where_a_link_leads(self, tmp_path: Path, exists: bool) -> None:
        path, target = tmp_path / "key", tmp_path / "target"
        if exists:
            target.write_bytes(b"old")
        path.symlink_to(target)
        with pytest.raises(ConfigurationError, match=f"{path} exists and is never overwritten: remove it"):
            PrivateFile(path).create(b"new")
        assert path.is_symlink()
        assert target.exists() is exists


class TestFaults:
    @pytest.mark.parametrize("fault", ["write", "fsync"])
    def test_a_full_disk_leaves_what_was_there(
        self, tmp_path: Path, write: Write, fault: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "other").write_bytes(b"old")
        path = tmp_path / "key"
        if write is WRITES["replace"]:
            path.write_bytes(b"old")
        before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
        if fault == "write":
            patch(monkeypatch, "fdopen", lambda descriptor, mode: FullFile(descriptor))
        else:
            fail(monkeypatch, "fsync", errno.ENOSPC)
        problem = f"cannot write {path}: No space left on device; free space on its disk"
        with pytest.raises(ConfigurationError, match=problem) as caught:
            write(PrivateFile(path, reason="A_REASON", field="a_field"))
        assert (caught.value.reason, caught.value.field) == ("A_REASON", "a_field")
        assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before

    def test_all_new_files_are_made_or_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # The first file and its folder reach the disk.
        fail(monkeypatch, "fsync", errno.ENOSPC, allowed=2)
        with pytest.raises(ConfigurationError, match=f"cannot write {tmp_path / 'two'}: No space left"):
            create_files(NewFile(tmp_path / "one", b"1"), NewFile(tmp_path / "two", b"2"))
        assert list(tmp_path.iterdir()) == []

    def test_a_name_that_is_taken_leaves_none_of_the_others(self, tmp_path: Path) -> None:
        (tmp_path / "two").write_bytes(b"old")
        with pytest.raises(ConfigurationError, match=f"{tmp_path / 'two'} exists and is never overwritten"):
            create_files(NewFile(tmp_path / "one", b"1"), NewFile(tmp_path / "two", b"2"))
        assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("two", b"old")]

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
    def test_a_folder_that_cannot_be_written_is_said_with_what_to_do(
        self, tmp_path: Path, write: Write, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Root may write to any folder.
        fail(monkeypatch, "open", number)
        problem = f"cannot write {tmp_path / 'key'}: {os.strerror(number)}; .*(writable)"
        with pytest.raises(ConfigurationError, match=problem):
            write(PrivateFile(tmp_path / "key"))

    def test_a_folder_that_is_not_there_is_said_with_what_to_do(self, tmp_path: Path, write: Write) -> None:
        path = tmp_path / "none" / "key"
        with pytest.raises(ConfigurationError, match=f"cannot write {path}: No such file.*; make its folder first"):
            write(PrivateFile(path))

    def test_a_folder_is_not_replaced_by_a_file(self, tmp_path: Path) -> None:
        folder = tmp_path / "target"
        folder.mkdir()
        with pytest.raises(ConfigurationError, match=f"cannot write {folder}"):
            PrivateFile(folder).replace(b"content")
        assert [path.name for path in tmp_path.iterdir()] == ["target"]

    def test_a_file_in_the_way_of_a_folder_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"in the way")
        with pytest.raises(ConfigurationError, match=f"cannot write {path}: File exists"):
            make_private_folder(path)


class TestDurability:
    """The order in which file, name and folder reach the disk."""

    @pytest.fixture
    def steps(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        steps: list[str] = []
        fsync, replace = os.fsync, Path.replace

        def noting_fsync(descriptor: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            steps.append("folder" if is_folder else f"file of {os.fstat(descriptor).st_size} bytes")
            fsync(descriptor)

        def noting_replace(path: Path, target: Path) -> Path:
            steps.append("name")
            return replace(path, target)

        patch(monkeypatch, "fsync", noting_fsync)
        monkeypatch.setattr(Path, "replace", noting_replace)
        return steps

    def test_a_file_is_replaced_once_its_content_is_on_the_disk(self, tmp_path: Path, steps: list[str]) -> None:
        PrivateFile(tmp_path / "key").replace(b"new")
        assert steps == ["file of 3 bytes", "name", "folder"]

    def test_a_new_file_is_on_the_disk_with_its_name(self, tmp_path: Path, steps: list[str]) -> None:
        PrivateFile(tmp_path / "key").create(b"new")
        assert steps == ["file of 3 bytes", "folder"]


class FullFile:
    """An open file on a full disk."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
