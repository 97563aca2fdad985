"""Valkey, server and bridge of deploy/compose.yaml, and an agent, as nobody on a read-only file system.

What they may write to is what the file declares. TLS, client certificates and tokens are on, as there.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from pydantic import SecretStr

from distributor.app.audit_key_file import add_key
from distributor.cli.token import TokenRequest, token_for
from distributor.identity.caller import CallerKind
from distributor.settings import ServerSettings
from distributor.store.server_binary import find_server_binary
from tests.support.certificates import CertificateMaker
from tests.support.compose_file import ServiceProgram
from tests.support.contained import IS_ROOT, NOBODY, Mount, contained, hand_over, python_mounts, writable_folder
from tests.support.free_port import free_port
from tests.support.launched_sender import run_sender
from tests.support.launched_server import LaunchedServer, descendants_of
from tests.support.waiting import eventually

PORTS: Final = (50051, 50052, 9090, 8080)
VOLUMES: Final = ("valkey-data", "valkey-socket", "state")
KEY: Final = "a key for nothing but tests, of 32 bytes at least"


class Deployment(NamedTuple):
    """What runs, and where its files and ports are."""

    programs: Mapping[str, LaunchedServer]
    ports: Mapping[int, int]
    secrets: Path
    token: str


def token(name: str, kind: CallerKind, role: str) -> str:
    return token_for(ServerSettings(token_key=SecretStr(KEY)), TokenRequest(name, "1h", kind, roles=[role]))


def write_secrets(folder: Path) -> None:
    """What an operator puts into deploy/secrets, and an agent's certificate."""
    folder.mkdir()
    authority = CertificateMaker()
    for name in ("server", "bridge"):
        authority.server("server", "localhost", "127.0.0.1").write(folder, name)
    authority.agent("contained").write(folder, "agent")
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "ca-key.pem").write_bytes(authority.key_pem)
    (folder / "bridge.token").write_text(token("bridge", CallerKind.SERVICE, "delegate"))
    (folder / "token-key").write_text(KEY)
    (folder / "config.toml").write_text("")
    add_key(folder / "audit.key", "k1")
    for file in folder.iterdir():
        file.chmod(0o400)
        hand_over(file)


@pytest.fixture(scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    folder = tmp_path_factory.mktemp("contained")
    secrets = folder / "secrets"
    write_secrets(secrets)
    volumes = {name: writable_folder(folder / name) for name in VOLUMES}
    async with AsyncExitStack() as stack:
        ports = {port: stack.enter_context(free_port()) for port in PORTS}
        programs: dict[str, LaunchedServer] = {}
        for name, ready in (("valkey", "Ready to accept connections"), ("server", "serving"), ("bridge", "serving")):
            service = ServiceProgram(name, ["distributor"], ports)
            mounts = [*python_mounts(), *service.mounts(secrets, volumes)]
            command = [str(find_server_binary().path), *service.command[1:]] if name == "valkey" else service.command
            programs[name] = await stack.enter_async_context(
                contained(folder / f"{name}-root", mounts, *command, environment=service.environment, new_code=False)
            )
            await programs[name].line(ready)
        state = Mount(writable_folder(folder / "agent-state"), "/var/lib/command-agent", writable=True)
        programs["agent"] = await stack.enter_async_context(
            contained(
                folder / "agent-root",
                [*python_mounts(), Mount(secrets, "/run/secrets"), state],
                *("command-agent", "--agent=contained", f"--server=127.0.0.1:{ports[50052]}", "--allow-exec"),
                environment={
                    "XDG_STATE_HOME": "/var/lib/command-agent",
                    "DISTRIBUTOR_AGENT_TLS_CA": "/run/secrets/ca.pem",
                    "DISTRIBUTOR_AGENT_TLS_CERT": "/run/secrets/agent.pem",
                    "DISTRIBUTOR_AGENT_TLS_KEY": "/run/secrets/agent-key.pem",
                },
            )
        )
        await programs["agent"].line("connected")
        yield Deployment(programs, ports, secrets, token("alice", CallerKind.USER, "operator"))


async def send(deployment: Deployment, *program: str) -> tuple[int, str]:
    """Run a program on the agent as alice, from outside; its exit code and what it printed."""
    trust = (f"--config={deployment.secrets.parent / 'sender.toml'}",)
    Path(trust[0].partition("=")[2]).write_text(
        f'[client]\ntls_ca = "{deployment.secrets / "ca.pem"}"\ntoken = "{deployment.token}"\n'
    )
    address = f"127.0.0.1:{deployment.ports[50051]}"
    finished = await run_sender(address, *trust, "--agent=contained", "--follow", "--", *program)
    return finished.code, finished.stdout.decode() + finished.stderr


async def test_a_command_runs_with_certificates_and_tokens(deployment: Deployment) -> None:
    code, said = await send(deployment, "id", "-u")
    assert (code, said.splitlines()[0]) == (0, str(NOBODY if IS_ROOT else 0))


async def test_a_command_can_write_only_where_the_agent_may(deployment: Deployment) -> None:
    for place in ("/", "/usr", "/etc", "/run/secrets"):
        code, said = await send(deployment, "sh", "-c", f"touch {place}/written")
        assert (code, "Read-only file system" in said or "Permission denied" in said) == (1, True), said
    code, said = await send(deployment, "sh", "-c", "touch /tmp/written /var/lib/command-agent/written")
    assert code == 0, said


@pytest.mark.parametrize("name", ["valkey", "server", "bridge", "agent"])
def test_no_process_has_rights(deployment: Deployment, name: str) -> None:
    main = deployment.programs[name].process.pid
    for pid in (main, *descendants_of(main)):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        assert set(status["Uid"]) == {str(NOBODY if IS_ROOT else 0)}
        for capabilities in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[capabilities][0], 16) == 0 or not IS_ROOT
        assert status["NoNewPrivs"] == ["1"]


async def test_the_page_is_served_over_tls(deployment: Deployment) -> None:
    context = ssl.create_default_context(cafile=deployment.secrets / "ca.pem")
    url = f"https://127.0.0.1:{deployment.ports[8080]}/"

    def page() -> bytes:
        with urllib.request.urlopen(url, timeout=30, context=context) as answer:
            return bytes(answer.read())

    assert b"<html" in (await asyncio.to_thread(page)).lower()


@pytest.mark.parametrize("name", ["server", "bridge"])
async def test_health_checks_pass(deployment: Deployment, name: str) -> None:
    check = ServiceProgram(name, [], deployment.ports).health_check

    async def healthy() -> bool:
        process = await asyncio.create_subprocess_exec(*check)
        return await process.wait() == 0

    await eventually(healthy)


def test_nothing_is_said_of_files_that_cannot_be_written(deployment: Deployment) -> None:
    for program in deployment.programs.values():
        assert "Read-only file system" not in program.everything
        assert "Traceback" not in program.everything
