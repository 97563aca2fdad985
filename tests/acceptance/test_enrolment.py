"""From nothing to an agent with mutual TLS, with the programs as users call them."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.support.launched_server import LAUNCHER, ROOT, launched_program, launched_server
from tests.support.waiting import PATIENCE_SECONDS

AGENT = ROOT / "cmd" / "command_agent.py"


async def run(*command: str | Path, stdin: str = "", **environment: str) -> str:
    """What a program prints to stdout; it must succeed."""
    whole = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    arguments = [sys.executable, *map(str, command)]
    process = await asyncio.create_subprocess_exec(*arguments, env=whole, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, errors = await process.communicate(stdin.encode())
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_an_agent_enrols_connects_and_is_revoked(tmp_path: Path) -> None:
    settings, folder = tmp_path / "distributor.toml", tmp_path / "ca"
    printed = await run(LAUNCHER, "ca", "init", "--dir", folder)
    settings.write_text(re.sub(r"listen = .*", 'listen = "127.0.0.1:0"', printed))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    state, config = str(tmp_path / "state"), ("--config", str(settings))
    listening = ("--http-listen=127.0.0.1:0", f"--data-dir={tmp_path / 'data'}")
    async with launched_server("serve", *config, *listening, "--log-format=console") as server:
        address = re.findall(r"grpc=(\S+)", await server.line("serving"))[0]
        at = ("--server", address, *config)
        token = await run(LAUNCHER, "enrol-token", "press-7", "--label", "site=lab", *at)
        said = await run(AGENT, "enrol", "--agent=press-7", "--server", address, stdin=token, XDG_STATE_HOME=state)
        assert "agent press-7 is enrolled" in said
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "XDG_STATE_HOME": state}
        async with launched_program(sys.executable, AGENT, environment=environment) as agent:
            await agent.line("connected")
            assert "press-7" in await run(LAUNCHER, "revoke", "press-7", "--reason", "stolen", *at)
            ended = await agent.line("the stream ended")
            assert "UNAUTHENTICATED" in ended
            listed = await run(LAUNCHER, "revocations", *at)
            assert re.search(r"agent press-7 .*user:local:\S+ +stolen", listed)


async def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    await run(LAUNCHER, "ca", "init", "--dir", tmp_path, "--host", "a.example")
    await run(LAUNCHER, "ca", "issue", "service", "billing", "--dir", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for command in (("init",), ("issue", "service", "billing"), ("issue", "server", "billing")):
        process = await asyncio.create_subprocess_exec(
            sys.executable, LAUNCHER, "ca", *command, "--dir", tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
