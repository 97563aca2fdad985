"""`distributor bridge` as an operator launches it, with a token that `distributor token` made."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dashboard_client import dashboard_client
from tests.support.launched_programs import launched
from tests.support.launched_sender import ROOT
from tests.support.running_server import running_server
from tests.support.waiting import PATIENCE_SECONDS


async def test_a_launched_bridge_serves_a_minted_token(
    tmp_path: Path, valkey_url: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("a key for nothing but tests, of 32 bytes at least\n")
    monkeypatch.setenv("DISTRIBUTOR_BRIDGE_TOKEN_KEY_FILE", str(key_file))
    monkeypatch.setenv("DISTRIBUTOR_BRIDGE_VALKEY_URL", valkey_url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    minting = [str(ROOT / "cmd" / "distributor_server.py"), "token", "--subject=alice", "--role=viewer"]
    minted = await asyncio.to_thread(
        subprocess.run, [sys.executable, *minting], cwd=ROOT, capture_output=True, text=True, check=True
    )
    async with running_server(valkey_url) as server, server.agent():
        listen = f"127.0.0.1:{port}"
        options = [f"--listen={listen}", f"--server={server.address}"]
        async with launched("websocket_bridge.py", *options, ready=b"serving dashboards") as process:
            async with dashboard_client(f"ws://{listen}/ws") as dashboard:
                connected = await dashboard.connect(minted.stdout.strip())
                process.terminate()
                assert (await dashboard.until_closed())[0] == 1012
            assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == 0
    assert connected["userId"] == "alice"
    assert [agent["agentId"] for agent in connected["agents"]] == ["agent123"]
