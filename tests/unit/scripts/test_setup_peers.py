"""scripts/setup_peers.sh on a machine made of stubs: nothing is fetched."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.source_tree import ROOT

TOOLS: Final = (
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "dirname",
    "env",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sha256sum",
    "touch",
)

STUBS: Final = {
    # Without its bound of time.
    "timeout": 'shift; exec "$@"\n',
    "id": 'echo "${USER_ID:-0}"\n',
    "npm": 'echo "npm $*" >>"$LOG"; [ ! -e "$HERE/npm-fails" ] || exit 1; mkdir -p node_modules/bullmq\n',
    "apt-get": 'echo "apt-get $*" >>"$LOG"\n[ "$2" = update ] || touch nats-server_1_amd64.deb\n',
    "dpkg-deb": "mkdir -p $3/usr/sbin; touch $3/usr/sbin/nats-server; chmod +x $3/usr/sbin/nats-server\n",
}
PYTHON: Final = """\
echo "python $*" >>"$LOG"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *"pip install"*) [ ! -e "$HERE/pip-fails" ] ;;
esac
"""


class Machine:
    """A checkout with its own environment, and a PATH with nothing but stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "checkout"
        self.peers = folder / "peers"
        self.bin = folder / "bin"
        self.log = folder / "log"
        for made in ("scripts", "bench/peers/bullmq", ".venv/bin"):
            (self.checkout / made).mkdir(parents=True)
        self.bin.mkdir()
        self.log.touch()
        for name in ("scripts/setup_peers.sh", "bench/peers/requirements.txt"):
            shutil.copy(ROOT / name, self.checkout / name)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ROOT / "bench" / "peers" / "bullmq" / name, self.checkout / "bench" / "peers" / "bullmq")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        for name, script in STUBS.items():
            self.stub(self.bin / name, script)
        self.stub(self.checkout / ".venv" / "bin" / "python", PYTHON)

    def stub(self, path: Path, script: str) -> None:
        """Write a program."""
        path.write_text(f"#!{shutil.which('bash')}\n{script}")
        path.chmod(0o755)

    def setup(self, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run the script, which always succeeds."""
        environment = {"PATH": str(self.bin), "LOG": str(self.log), "HERE": str(self.folder)}
        ended = subprocess.run(
            [str(self.checkout / "scripts" / "setup_peers.sh")],
            env={**environment, "BENCH_PEERS": str(self.peers), **changes},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert ended.returncode == 0
        return ended

    def done(self) -> list[str]:
        """What was called, without its arguments."""
        return [line.split()[0] for line in self.log.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_it_installs_once(machine: Machine) -> None:
    assert machine.setup().stderr == ""
    assert (machine.peers / "venv" / ".installed").exists()
    assert (machine.peers / "bullmq" / ".installed").exists()
    assert (machine.peers / "bullmq" / "node_modules" / "bullmq").is_dir()
    assert (machine.peers / "nats" / "usr" / "sbin" / "nats-server").exists()
    calls = machine.done()
    again = machine.setup()
    assert (again.stdout, again.stderr) == ("", "")
    assert machine.done() == calls


@pytest.mark.parametrize(
    ("file", "program"), [("requirements.txt", "python"), ("bullmq/package-lock.json", "npm")], ids=["python", "npm"]
)
def test_it_installs_again_what_has_another_version(machine: Machine, file: str, program: str) -> None:
    machine.setup()
    machine.log.write_text("")
    (machine.checkout / "bench" / "peers" / file).write_text("{}\n")
    machine.setup()
    assert set(machine.done()) == {program}


def test_without_npm_it_leaves_out_bullmq_alone(machine: Machine) -> None:
    (machine.bin / "npm").unlink()
    ended = machine.setup()
    assert ended.stderr == (
        "setup: the benchmark leaves out BullMQ: npm is missing; on Debian: apt-get install nodejs npm\n"
    )
    assert (machine.peers / "venv" / ".installed").exists()


@pytest.mark.parametrize(("program", "part"), [("pip", "venv"), ("npm", "bullmq")])
def test_what_fails_is_named_with_its_log_and_tried_again(machine: Machine, program: str, part: str) -> None:
    (machine.folder / f"{program}-fails").touch()
    ended = machine.setup()
    assert f"{program} failed, see {machine.peers}/{program}.log" in ended.stderr
    assert not (machine.peers / part).exists()
    (machine.folder / f"{program}-fails").unlink()
    assert machine.setup().stderr == ""
    assert (machine.peers / part / ".installed").exists()


def test_without_apt_get_it_names_nats_server(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    assert machine.setup().stderr == (
        "setup: the benchmark leaves out JetStream: nats-server is missing; put it on PATH\n"
    )


def test_a_failing_apt_get_leaves_nothing_behind(machine: Machine) -> None:
    machine.stub(machine.bin / "dpkg-deb", "exit 1\n")
    assert "apt-get failed, see" in machine.setup().stderr
    assert not (machine.peers / "nats").exists()


def test_another_user_fetches_without_updating_the_lists(machine: Machine) -> None:
    machine.setup(USER_ID="1000")
    assert [line for line in machine.log.read_text().splitlines() if "apt-get" in line] == [
        "apt-get -qq download nats-server"
    ]


def test_a_nats_server_on_path_is_used(machine: Machine) -> None:
    machine.stub(machine.bin / "nats-server", "")
    machine.setup()
    assert "apt-get" not in machine.done()


def test_without_the_projects_environment_it_says_how_to_make_it(machine: Machine) -> None:
    (machine.checkout / ".venv" / "bin" / "python").unlink()
    assert "JetStream and taskiq: there is no .venv; run make env" in machine.setup().stderr
