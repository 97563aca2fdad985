"""What operators get wrong: one line that says what to mend, an exit code, no traceback."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from valkey.asyncio import Valkey

from distributor.cli.exit_codes import ExitCode
from distributor.store.embedded import EmbeddedValkey
from tests.support.launched_server import launched_server, somewhere
from tests.support.running_server import keyspace, running_server

ANY_PORTS = ("--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0")


async def complaint(*arguments: str, **environment: str) -> str:
    """The one line that `distributor serve` ends with."""
    async with launched_server("serve", *arguments, **environment) as server:
        assert await server.ended() == ExitCode.USAGE, server.everything
        assert server.stdout == []
        assert len(server.stderr) == 1, server.everything
        assert server.stderr[0].startswith("distributor: ")
        return server.stderr[0]


async def test_a_second_server_on_the_same_port(valkey_url: str) -> None:
    async with running_server(valkey_url) as first:
        before = await keyspace(valkey_url)
        line = await complaint(f"--listen={first.address}", "--http-listen=127.0.0.1:0", f"--valkey-url={valkey_url}")
        assert f"cannot listen on {first.address} (listen): Address already in use" in line
        assert await keyspace(valkey_url) == before
        await first.queue()


async def test_a_second_server_on_the_same_http_port(valkey_url: str) -> None:
    async with running_server(valkey_url) as first:
        taken = f"127.0.0.1:{first.process.http_port}"
        line = await complaint("--listen=127.0.0.1:0", f"--http-listen={taken}", f"--valkey-url={valkey_url}")
        assert f"cannot listen on {taken} (http_listen): Address already in use" in line


async def test_a_server_started_twice_is_told_of_everything_that_the_first_has(tmp_path: Path) -> None:
    async with launched_server("serve", *somewhere(tmp_path)) as first:
        line = await first.line("serving")
        grpc, http = re.findall(r"(?:grpc|http)=(\S+)", line)
        said = await complaint(f"--listen={grpc}", f"--http-listen={http}", f"--data-dir={tmp_path}")
        assert f"cannot listen on {grpc} (listen): Address already in use, {http} (http_listen): Address" in said
        assert f"the data folder {tmp_path} is in use by another server (process {first.process.pid})" in said
        assert said.endswith(
            "; if a server is already running, stop it, or give this one other addresses and another data_dir"
        )


async def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        for option in ("--listen", "--http-listen"):
            line = await complaint(*ANY_PORTS, f"{option}=127.0.0.1:{port}", f"--data-dir={tmp_path / 'data'}")
            assert f"cannot listen on 127.0.0.1:{port} ({option[2:].replace('-', '_')}): Address already in use" in line
            assert line.endswith("; stop the program that uses it, or set another address")
            assert not (tmp_path / "data").exists()


async def test_the_page_of_dev_on_a_port_in_use(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        arguments = ["dev", *somewhere(tmp_path / "data"), f"--bridge-listen=127.0.0.1:{port}"]
        async with launched_server(*arguments) as server:
            assert await server.ended() == ExitCode.USAGE, server.everything
            (line,) = server.stderr
            assert f"cannot listen on 127.0.0.1:{port} (bridge-listen): Address already in use" in line


async def test_one_port_for_both(port: int) -> None:
    line = await complaint(f"--listen=127.0.0.1:{port}", f"--http-listen=127.0.0.1:{port}")
    assert line == f"distributor: listen and http_listen must differ, not both be 127.0.0.1:{port}"


async def test_a_second_server_on_the_same_data_folder(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path):
        line = await complaint(*ANY_PORTS, f"--data-dir={tmp_path}")
        assert f"the data folder {tmp_path} is in use by another server" in line


async def test_a_settings_file_with_a_byte_order_mark(tmp_path: Path, valkey_url: str) -> None:
    config = tmp_path / "settings.toml"
    async with running_server(valkey_url) as first:
        config.write_bytes(b"\xef\xbb\xbf" + f'[server]\nlisten = "{first.address}"\n'.encode())
        line = await complaint("--http-listen=127.0.0.1:0", f"--valkey-url={valkey_url}", f"--config={config}")
        assert f"cannot listen on {first.address}" in line


async def test_a_valkey_that_is_not_there(port: int) -> None:
    line = await complaint(*ANY_PORTS, f"--valkey-url=valkey://user:secret@127.0.0.1:{port}")
    assert f"cannot use the Valkey at valkey://127.0.0.1:{port}: " in line
    assert line.endswith("; start it, or check host and port")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://127.0.0.1:6379", "must begin with one of valkey://"),
        ("valkey://127.0.0.1:99999", "must have a port of 0 to 65535"),
        ("valkey://", "must name a host"),
        ("127.0.0.1:6379", "must begin with one of valkey://"),
    ],
)
async def test_a_valkey_url_that_is_none(url: str, what: str) -> None:
    line = await complaint(*ANY_PORTS, f"--valkey-url={url}")
    assert line.startswith("distributor: --valkey-url must")
    assert what in line


async def test_a_valkey_that_evicts_keys(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey:
        async with Valkey.from_url(valkey.url) as client:
            await client.config_set("maxmemory-policy", "allkeys-lru")
        line = await complaint(*ANY_PORTS, f"--valkey-url={valkey.url}")
        assert "evicts keys when it is full (maxmemory-policy is allkeys-lru)" in line
        assert "set maxmemory-policy to noeviction" in line
        assert await keyspace(valkey.url) == {}


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        (
            "DISTRIBUTOR_POLING_INTERVAL",
            "1",
            "unknown setting DISTRIBUTOR_POLING_INTERVAL in the environment; "
            "did you mean DISTRIBUTOR_POLLING_INTERVAL?",
        ),
        ("DISTRIBUTOR_BATCH_SIZE", "21", "DISTRIBUTOR_BATCH_SIZE must be less than or equal to 20, not '21'"),
        ("DISTRIBUTOR_QUEUE_FULL", "burn", "DISTRIBUTOR_QUEUE_FULL must be 'refuse' or 'drop', not 'burn'"),
        ("DISTRIBUTOR_START_WITHIN", "5", "start_within (5 s) must be more than heartbeat_interval (10 s)"),
    ],
)
async def test_a_setting_in_the_environment(name: str, value: str, what: str) -> None:
    assert what in await complaint(*ANY_PORTS, **{name: value})


async def test_a_setting_that_does_not_exist_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[server]\npolling_intervall = 1\n")
    line = await complaint(*ANY_PORTS, f"--config={file}")
    assert f"unknown setting polling_intervall in [server] of {file}; did you mean polling_interval?" in line
