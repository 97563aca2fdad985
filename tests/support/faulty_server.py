"""Fixtures for tests of callers: a real server whose calls a test can delay, refuse, cut and count.

A conftest imports all of them, and those of shared_server for the Valkey.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from tests.support.driven_agent import DrivenAgent, driven_agent
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import RunningServer, intercepted_server, quick_settings


class FaultyServer(NamedTuple):
    """A served ServerProcess, and the faults between it and its callers."""

    running: RunningServer
    faults: RpcFaults


@pytest.fixture(scope="session")
async def shared_faulty_server(shared_valkey_url: str) -> AsyncIterator[FaultyServer]:
    """One server for this folder. Tests want `server` and `faults`."""
    faults = RpcFaults()
    async with intercepted_server(quick_settings(shared_valkey_url), faults) as running:
        yield FaultyServer(running, faults)


@pytest.fixture
def faults(shared_faulty_server: FaultyServer) -> RpcFaults:
    """What a test injects, and the calls that it has seen."""
    shared_faulty_server.faults.clear()
    return shared_faulty_server.faults


@pytest.fixture
def running(shared_faulty_server: FaultyServer, faults: RpcFaults, valkey_url: str) -> RunningServer:
    """The server under `server`, which has no commands and agents at first."""
    return shared_faulty_server.running


@pytest.fixture
def server(running: RunningServer) -> str:
    """The address of `running`."""
    return running.address


@pytest.fixture
async def agent(server: str) -> AsyncIterator[DrivenAgent]:
    """An agent a1 of it, which runs nothing by itself."""
    async with driven_agent(server) as agent:
        yield agent
