"""How the example in Node proves who it is to a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from distributor.app.server_process import ServerProcess, serving
from distributor.identity.caller import Caller, CallerKind
from tests.support.certificates import CertificateMaker
from tests.support.known_callers import KnownCallers
from tests.support.running_server import quick_settings
from tests.support.waiting import until

NODE = Caller(CallerKind.AGENT, "node-agent")


@asynccontextmanager
async def launched(program: tuple[str, ...], port: int, journal: Path, *options: str) -> AsyncIterator[None]:
    """The agent, connecting to this port; killed at the end."""
    values = {"address": f"localhost:{port}", "journal": str(journal)}
    process = await asyncio.create_subprocess_exec(*(part.format_map(values) for part in program), *options)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def server(valkey_url: str, tmp_path: Path) -> AsyncIterator[tuple[ServerProcess, tuple[str, ...]]]:
    """A server with both listeners, and the options of an agent that trusts it and has a token."""
    maker = CertificateMaker()
    files = maker.server("localhost").write(tmp_path, "server")
    client = maker.agent(NODE.subject).write(tmp_path, "client")
    token = tmp_path / "token"
    token.write_text(f"{NODE.subject}\n")
    settings = quick_settings(
        valkey_url,
        tls_cert=files.certificate,
        tls_key=files.key,
        client_ca=files.ca,
        mtls_listen="127.0.0.1:0",
    )
    async with serving(settings, authenticator=KnownCallers(NODE)) as process:
        yield (
            process,
            (f"--ca={files.ca}", f"--token-file={token}", f"--cert={client.certificate}", f"--key={client.key}"),
        )


async def test_a_token_over_tls(
    server: tuple[ServerProcess, tuple[str, ...]], node_agent: tuple[str, ...], tmp_path: Path
) -> None:
    process, (ca, token, *_) = server
    async with launched(node_agent, process.port, tmp_path / "journal", ca, token):
        await until(lambda: process.has_agent(NODE.subject))


async def test_a_client_certificate(
    server: tuple[ServerProcess, tuple[str, ...]], node_agent: tuple[str, ...], tmp_path: Path
) -> None:
    process, options = server
    async with launched(node_agent, process.mtls_port, tmp_path / "journal", *options):
        await until(lambda: process.has_agent(NODE.subject))
