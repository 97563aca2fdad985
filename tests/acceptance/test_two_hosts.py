"""A server, an agent and a caller as programs, with TLS and credentials given by flags, as for two hosts."""

from __future__ import annotations

from pathlib import Path

from distributor.settings import ServerSettings
from tests.support.certificates import CertificateMaker
from tests.support.free_port import free_port
from tests.support.launched_programs import launched
from tests.support.launched_sender import run_sender
from tests.support.launched_server import launched_server
from tests.support.running_bridge import token_of


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
