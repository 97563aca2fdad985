from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers.bullmq.peer import BullMQ
from bench.peers.installation import Installation
from bench.peers.jetstream.peer import JetStream
from bench.peers.taskiq.peer import Taskiq


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty installation, on a machine with Node.js and nats-server."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("node", "nats-server"):
        (programs / name).write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return tmp_path / "peers"


def install(folder: Path, part: str) -> None:
    """Complete a part, as scripts/setup_peers.sh does."""
    (folder / part).mkdir(parents=True)
    (folder / part / ".installed").touch()


def test_nothing_is_installed_at_first(folder: Path) -> None:
    installation = Installation(folder)
    assert JetStream(installation).missing() == "nats-py is not installed: run scripts/setup_peers.sh"
    assert BullMQ(installation).missing() == "bullmq is not installed: run scripts/setup_peers.sh"
    assert Taskiq(installation).missing() == "taskiq is not installed: run scripts/setup_peers.sh"


def test_a_part_without_its_stamp_is_incomplete(folder: Path) -> None:
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "bullmq" / "node_modules").mkdir(parents=True)
    assert Installation(folder).python is None
    assert Installation(folder).node_modules is None


def test_complete_parts_are_found(folder: Path) -> None:
    install(folder, "venv")
    install(folder, "bullmq")
    installation = Installation(folder)
    assert [peer(installation).missing() for peer in (JetStream, BullMQ, Taskiq)] == ["", "", ""]
    assert installation.nats_server_version() == "2.9.10"


def test_without_node_bullmq_names_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder, "bullmq")
    monkeypatch.setenv("PATH", str(folder))
    assert "apt-get install nodejs npm" in BullMQ(Installation(folder)).missing()


def test_an_unpacked_nats_server_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    program = folder / "nats" / "usr" / "sbin" / "nats-server"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    assert Installation(folder).nats_server == str(program)


def test_versions_are_those_of_the_installed_packages(folder: Path) -> None:
    (folder / "venv" / "lib" / "python3.11" / "site-packages" / "nats_py-2.16.0.dist-info").mkdir(parents=True)
    package = folder / "bullmq" / "node_modules" / "bullmq"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"version": "6.7.0"}')
    installation = Installation(folder)
    assert installation.python_version("nats-py") == "2.16.0"
    assert installation.npm_version("bullmq") == "6.7.0"
    assert installation.python_version("taskiq") == installation.npm_version("ioredis") == "unknown"


def test_the_environment_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder, "venv")
    monkeypatch.setenv("BENCH_PEERS", str(folder))
    assert Installation().python == folder / "venv" / "bin" / "python"
