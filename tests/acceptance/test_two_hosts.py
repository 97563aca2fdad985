"""A server, an agent and a caller as programs, with TLS and credentials given by flags, as for two hosts."""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from pathlib import Path

from distributor.settings import ServerSettings
from tests.support.certificates import CertificateMaker
from tests.support.free_port import free_port
from tests.support.launched_programs import launched
from tests.support.launched_sender import run_sender
from tests.support.launched_server import ROOT, launched_server
from tests.support.running_bridge import token_of
from tests.support.separate_hosts import Host, separate_hosts
from tests.support.waiting import eventually


async def test_programs_with_certificates_and_a_token(tmp_path: Path) -> None:
    maker = CertificateMaker()
    server = maker.server().write(tmp_path, "server")
    agent = maker.agent("agent123").write(tmp_path, "agent")
    key, token = tmp_path / "token.key", tmp_path / "token"
    key.write_text("a key of the tests that is long enough for HS256")
    token.write_text(token_of(ServerSettings(token_key_file=(key,)), "operator"))
    with free_port() as port, free_port() as mutual:
        serve = [
            f"--listen=127.0.0.1:{port}",
            f"--mtls-listen=127.0.0.1:{mutual}",
            "--http-listen=127.0.0.1:0",
            "--http-tls",
            f"--tls-cert={server.certificate}",
            f"--tls-key={server.key}",
            f"--client-ca={server.ca}",
            f"--data-dir={tmp_path / 'data'}",
        ]
        connect = [
            "--agent=agent123",
            f"--server=localhost:{mutual}",
            f"--tls-ca={server.ca}",
            f"--tls-cert={agent.certificate}",
            f"--tls-key={agent.key}",
        ]
        keys = {"DISTRIBUTOR_TOKEN_KEY_FILE": str(key)}
        async with (
            launched("distributor_server.py", "serve", *serve, ready=b"serving", **keys),
            launched("command_agent.py", *connect, ready=b"connected"),
        ):
            ping = ["--agent=agent123", "--type=PING", "--wait"]
            known = [f"--tls-ca={server.ca}", f"--token-file={token}"]
            sent = await run_sender(f"localhost:{port}", *known, *ping)
            assert sent.code == 0, sent.stderr
            stranger = await run_sender(f"localhost:{port}", f"--tls-ca={server.ca}", *ping)
            assert stranger.code != 0
            assert "credentials are required" in stranger.stderr
            plain = await run_sender(f"127.0.0.1:{port}", *ping)
            assert plain.code != 0
            assert "one end may use TLS and the other not" in plain.stderr


async def test_a_failed_handshake_writes_nothing_to_the_log(tmp_path: Path) -> None:
    files = CertificateMaker().server().write(tmp_path, "server")
    with free_port() as port:
        options = [
            f"--listen=127.0.0.1:{port}",
            "--http-listen=127.0.0.1:0",
            f"--tls-cert={files.certificate}",
            f"--tls-key={files.key}",
            f"--data-dir={tmp_path / 'data'}",
            "--log-format=json",
        ]
        async with launched_server("serve", *options) as server:
            await server.line("serving")
            assert (await run_sender(f"127.0.0.1:{port}", "list")).code != 0
            server.process.terminate()
            assert await server.ended() == 0
            assert all(line.startswith("{") for line in server.stderr), server.everything


SERVER, AGENT, DESK = "server.example.org", "web-1.example.org", "desk.example.org"


def for_real() -> list[str]:
    """The commands of each block of the README's section "For real"."""
    section = (ROOT / "README.md").read_text().partition("\n## For real\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    return ["\n".join(re.findall(r"^\$ (.*)", block, re.MULTILINE)) for block in blocks]


def copy(source: Host, target: Host, *names: str) -> None:
    """Take files from the home of one host to that of another."""
    for name in names:
        shutil.copy(source.home / name, target.home / Path(name).name)


async def test_the_readme_takes_a_new_user_from_nothing_to_two_hosts() -> None:
    """Each block is pasted at once, as it is, on a host of its own that has nothing but the programs."""
    on_server, on_agent, at_desk = for_real()
    # Short, as the server's Valkey has a socket there.
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder:
        async with separate_hosts(Path(folder), SERVER, AGENT, DESK) as hosts:
            server, agent, desk = hosts[SERVER], hosts[AGENT], hosts[DESK]
            done = await server.run(on_server)
            assert done.code == 0, done.output
            written = [path for path in server.home.rglob("*") if path.is_file()]
            assert [path for path in written if path.stat().st_mode & 0o077] == [], "all of it is secret"

            copy(server, agent, "web-1.token")
            done = await agent.run(on_agent)
            assert done.code == 0, done.output

            copy(server, desk, "ada.token", "ca/ca.pem")
            done = await desk.run(at_desk)
            assert done.code == 0, done.output
            assert "Logged in to server.example.org:50051" in done.output
            assert f"\n{platform.system()} {platform.machine()}\n" in done.output
            assert "completed, exit code 0" in done.output

            strange = "XDG_CONFIG_HOME=$PWD command-sender agents --server=server.example.org:50051 --tls-ca=ca.pem"
            done = await desk.run(strange)
            assert done.code != 0
            assert "credentials are required" in done.output
            done = await desk.run(strange.replace("50051", "50052"))
            assert done.code != 0
            assert "web-1" not in done.output

            done = await server.run("export DISTRIBUTOR_CONFIG=$PWD/distributor.toml; distributor revoke web-1")
            assert done.code == 0, done.output

            async def cut_off() -> bool:
                return "offline" in (await desk.run("command-sender agents")).output

            await eventually(cut_off)
            done = await server.run("export DISTRIBUTOR_CONFIG=$PWD/distributor.toml; distributor audit list")
            rows = [" ".join(line.split()) for line in done.output.splitlines()]
            assert any("command.queued success user:ada 10.9.0.3 web-1" in row for row in rows), done.output
            assert any("agent.revoked success user:local:ada" in row for row in rows), done.output
