"""Settings of a bridge that nothing else shows the effect of: each is changed, and what it changes is seen."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.support.own_logs import own_logs
from tests.support.running_bridge import READ, RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.token_issuer import claims
from tests.support.waiting import eventually

STALL_SECONDS = 0.3


def stall() -> None:
    """Block the loop."""
    time.sleep(STALL_SECONDS)


async def test_token_audience_is_the_one_that_tokens_must_name(server: RunningServer, bridge: RunningBridge) -> None:
    async with running_bridge(server, token_audience="another") as other:
        assert (await bridge.get("/api/agents", other.token(READ))).status == 401
        assert (await other.get("/api/agents", bridge.token(READ))).status == 401
        assert (await other.get("/api/agents", other.token(READ))).status == 200


async def test_public_keys_verify_tokens_of_others(server: RunningServer, tmp_path: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    pem = tmp_path / "issuer.pem"
    pem.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    token = jwt.encode(claims(), private, algorithm="EdDSA")
    async with running_bridge(server) as without, running_bridge(server, public_keys=(pem,)) as bridge:
        assert (await without.get("/api/agents", token)).status == 401
        assert (await bridge.get("/api/agents", token)).status == 200


async def test_queue_messages_and_queue_bytes_bound_the_queue_of_a_dashboard(server: RunningServer) -> None:
    async with running_bridge(server, queue_messages=77, queue_bytes=2_000_000) as bridge, bridge.dashboard():
        (dashboard,) = bridge.process.parts.hub.dashboards
        assert (dashboard.outbox._max_messages, dashboard.outbox._max_bytes) == (77, 2_000_000)


async def test_offline_after_is_when_a_silent_agent_counts_as_gone(
    server: RunningServer, bridge: RunningBridge
) -> None:
    async with server.agent(), running_bridge(server, offline_after=0.2) as impatient:

        async def offline() -> bool:
            (agent,) = (await impatient.get("/api/agents")).json()["agents"]
            return bool(agent["status"] == "offline")

        await eventually(offline)
        (agent,) = (await bridge.get("/api/agents")).json()["agents"]
        assert agent["status"] == "online"


async def test_loop_stall_threshold_is_how_long_the_loop_may_be_blocked(server: RunningServer) -> None:
    with own_logs() as logs:
        async with running_bridge(server, loop_stall_threshold=60.0):
            stall()
        assert "the event loop is blocked" not in [line["event"] for line in logs]
        async with running_bridge(server, loop_stall_threshold=STALL_SECONDS / 10):
            stall()
    assert "the event loop is blocked" in [line["event"] for line in logs]
