from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from distributor.errors import ConfigurationError, Unavailable
from distributor.processes.supervisor import RestartBudget
from distributor.store.embedded import EmbeddedValkey
from distributor.store.valkey_connection import ValkeyConnection
from tests.support.own_logs import own_logs


def kill(valkey: EmbeddedValkey) -> None:
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)


async def test_it_is_started_again_with_its_url_and_data_until_that_is_too_often(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey:
        supervisor, connection = valkey.supervisor(), ValkeyConnection(valkey.url)
        await connection.call("SET", "key", "value")
        for _ in range(RestartBudget().max_restarts):
            kill(valkey)
            with own_logs() as logs:
                await supervisor.run_once()
            assert [(line["event"], line.get("exit_code")) for line in logs] == [
                ("the embedded Valkey ended, restarting it", -9),
                ("the embedded Valkey is running again", None),
            ]
            await connection.close()
            assert await connection.call("GET", "key") == b"value"
        await connection.close()
        kill(valkey)
        with pytest.raises(
            Unavailable, match=rf"exit code -9\) after 3 restarts within 60 s; see its log {valkey.log}"
        ):
            await supervisor.run_once()


async def test_restarts_of_long_ago_do_not_count(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey:
        supervisor = valkey.supervisor(RestartBudget(max_restarts=1, within_seconds=0.0))
        for _ in range(2):
            kill(valkey)
            await supervisor.run_once()


async def test_the_folder_stays_locked_and_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey:
        kill(valkey)
        await valkey.ended()
        with pytest.raises(ConfigurationError, match="in use by another server"):
            await EmbeddedValkey(tmp_path).start()
        (aof,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
        aof.write_bytes(b"NONSENSE\r\n")
        with pytest.raises(ConfigurationError, match="the embedded Valkey ended with exit code 1 while starting"):
            await valkey.supervisor().run_once()
