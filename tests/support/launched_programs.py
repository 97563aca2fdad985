"""Starts and stops the launchers in cmd/ as processes."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.free_port import free_port
from tests.support.launched_sender import ROOT
from tests.support.waiting import PATIENCE_SECONDS


@asynccontextmanager
async def launched(launcher: str, *arguments: str, ready: bytes, **environment: str) -> AsyncIterator[Process]:
    """The process, once a line of its log has `ready` in it; ended by SIGTERM."""
    whole = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "cmd" / launcher), *arguments, env=whole, stdout=PIPE, stderr=STDOUT
    )
    assert process.stdout is not None
    told = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while ready not in told:
            line = await process.stdout.readline()
            told += line
            assert line, f"{launcher} ended before it was ready: {told.decode()}"
    # A log that nobody reads would stop the process.
    rest = asyncio.create_task(process.stdout.read())
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.wait()
            await rest


@asynccontextmanager
async def launched_server(data_dir: Path) -> AsyncIterator[str]:
    """The address of a server with a Valkey of its own."""
    with free_port() as port:
        address = f"127.0.0.1:{port}"
        options = [f"--listen={address}", "--http-listen=127.0.0.1:0", f"--data-dir={data_dir}"]
        async with launched("distributor_server.py", "serve", *options, ready=b"serving"):
            yield address


@asynccontextmanager
async def launched_agent(server: str, agent_id: str, **environment: str) -> AsyncIterator[Process]:
    """An agent that may EXEC, attached to `server`."""
    options = [f"--agent={agent_id}", f"--server={server}", "--allow-exec"]
    async with launched("command_agent.py", *options, ready=b"connected", **environment) as agent:
        yield agent
