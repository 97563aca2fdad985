"""The demo waits for its own agent, and says so where one that was killed is in its way."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from distributor.cli import demo
from distributor.cli.dev import startup_text
from distributor.errors import Unavailable
from distributor.settings import ServerSettings


class Server:
    """Has the agent once the wait for it was told."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, comes: bool) -> None:
        self.told = ""
        self._capsys = capsys
        self._comes = comes

    def has_agent(self, agent_id: str) -> bool:
        assert agent_id == "dev-agent"
        self.told += self._capsys.readouterr().out
        return self._comes and bool(self.told)


async def test_an_agent_that_was_killed_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(capsys, comes=True)
    await demo.wait_for_agent(server, offline_after=30.0, start_seconds=0.0)
    assert server.told == (
        "  Waiting for dev-agent. If a previous one was killed, its session expires 30 s after its last message.\n"
    )


async def test_one_that_does_not_come_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable, match=r"agent dev-agent did not attach within 0 s; its log says why"):
        await demo.wait_for_agent(Server(capsys, comes=False), offline_after=0.1, start_seconds=0.0)


def test_the_hint_names_the_sender_that_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "my env" / "bin"
    programs.mkdir(parents=True)
    (programs / "command-sender").write_text("#!/bin/sh\n")
    (programs / "command-sender").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert demo.sender_program() == f"'{programs}/command-sender'"
    monkeypatch.chdir(tmp_path / "my env")
    assert demo.sender_program() == "bin/command-sender"
    monkeypatch.setenv("PATH", str(programs))
    assert demo.sender_program() == "command-sender"


def test_the_screen_says_what_is_true(tmp_path: Path) -> None:
    running = Mock()
    running.server.port, running.server.http_port, running.bridge.url = 1, 2, "http://127.0.0.1:3/"
    running.credentials.user = "ada"
    shown = startup_text(running, ServerSettings(data_dir=tmp_path))
    assert shown.splitlines() == [
        f"  valkey   embedded, AOF on, in {tmp_path}",
        "  server   127.0.0.1:1 (gRPC)   http://127.0.0.1:2/metrics",
        "  agent    dev-agent, may EXEC",
        "  page     http://127.0.0.1:3/",
        "  Loopback only, with credentials for you, ada: context dev of command-sender",
    ]
    shown = startup_text(running, ServerSettings(valkey_url="valkey://:secret@db:6379/0"))
    assert shown.splitlines()[0] == "  valkey   valkey://db:6379/0"
