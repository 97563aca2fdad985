from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, cast
from unittest.mock import patch

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from distributor.bridge.snapshot_sync import SnapshotSync
from distributor.identity.caller import CallerKind
from distributor.identity.permissions import MESSAGES, Need
from distributor.identity.roles import Role
from distributor.identity.token_keys import shared_key
from distributor.identity.tokens import NewToken, TokenRules, mint
from tests.support.protocol_schema import types_of
from tests.support.running_bridge import READ, TOKEN_KEY, WRITE, RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.token_issuer import RULES, claims
from tests.support.waiting import eventually


def token(key: str = TOKEN_KEY, audience: str = RULES.audience, **changes: Any) -> str:
    """A token minted as ours are."""
    now = int(time.time())
    usual: dict[str, Any] = {"kind": CallerKind.USER, "subject": "alice", "issued": now, "expires": now + 60}
    new = NewToken(**usual | {"roles": [Role.VIEWER]} | changes)
    return mint(shared_key(key), TokenRules(audience=audience), new)


async def test_a_plain_get_is_told_to_upgrade(bridge: RunningBridge) -> None:
    answer = await bridge.get("/ws", token=None)
    assert answer.status == 426
    assert answer.headers["Upgrade"] == "websocket"


def signed(algorithm: str = "HS256", **changes: Any) -> str:
    """A token that we would not mint, signed with our key unless with none; a claim that is None is left out."""
    given = {name: value for name, value in claims(**changes).items() if value is not None}
    return jwt.encode(given, cast(Any, None) if algorithm == "none" else TOKEN_KEY, algorithm=algorithm)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: None, "token is required"),
        (lambda: "", "token is required"),
        (lambda: 7, "token must be text"),
        (lambda: "no.jwt.at-all", "not a JWT"),
        (lambda: token(expires=int(time.time()) - 60), "expired"),
        (lambda: token(key="another key, also of 32 bytes or more"), "key id and algorithm match none"),
        (lambda: token(audience="somebody-else"), "another audience"),
        (lambda: token(roles=[Role.DELEGATE]), "needs the role viewer"),
        (lambda: signed("none"), "algorithm match none of the keys"),
        (lambda: signed("HS512"), "algorithm match none of the keys"),
        (lambda: signed(exp=None), "has no exp"),
        (lambda: signed(iat=int(time.time()) + 600), "issued in the future"),
        (lambda: signed(sub=""), "sub must be 1 to 255"),
    ],
)
async def test_a_token_that_will_not_do(bridge: RunningBridge, made: Callable[[], object], why: str) -> None:
    """Tokens are made when the test runs: a whole test run may take longer than they live."""
    refused = made()
    async with bridge.stranger() as dashboard:
        await dashboard.say("dashboard:connect", **({} if refused is None else {"token": refused}))
        code, reason = await dashboard.until_closed()
    assert code == 1008
    assert why in reason
    assert not dashboard.messages


async def test_who_does_not_introduce_itself(server: RunningServer) -> None:
    async with running_bridge(server, connect_timeout=0.05) as bridge, bridge.stranger() as dashboard:
        assert await dashboard.until_closed() == (1008, "no dashboard:connect within 0.05 s")


async def test_who_says_something_else_first(bridge: RunningBridge) -> None:
    async with bridge.stranger() as dashboard:
        await dashboard.say("ping")
        assert await dashboard.until_closed() == (1008, "the first message must be dashboard:connect")


async def test_a_first_message_that_is_malformed_ends_the_connection(bridge: RunningBridge) -> None:
    async with bridge.stranger() as dashboard:
        await dashboard.socket.send("{")
        assert (await dashboard.until_closed())[0] == 1008
    async with bridge.stranger() as dashboard:
        await dashboard.say("dashboard:connect", token=bridge.token(), subscribe={"agents": "all"})
        assert await dashboard.until_closed() == (1008, "agents must be a list of at most 1,000")
        assert not dashboard.messages


async def test_a_long_first_message_is_not_read(server: RunningServer) -> None:
    async with running_bridge(server, max_connect_bytes=1_024) as bridge:
        async with bridge.stranger() as dashboard:
            await dashboard.say("command:request", agentId="a", command="echo " + "x" * 600_000)
            code, reason = await dashboard.until_closed()
        assert (code, reason) == (1008, "the first message is over 1,024 bytes; subscribe once connected")
        async with bridge.dashboard() as dashboard:
            await dashboard.settled()


async def test_the_largest_message_is_a_setting(server: RunningServer) -> None:
    async with running_bridge(server, max_message_bytes=16_384) as bridge, bridge.dashboard() as dashboard:
        await dashboard.say("ping", padding="x" * 16_000)
        await dashboard.first("pong")
        await dashboard.say("ping", padding="x" * 16_384)
        assert (await dashboard.until_closed())[0] == 1009


async def test_a_token_that_expires_ends_its_connection(server: RunningServer) -> None:
    end = time.time() + 1.5
    # Tokens know whole seconds only.
    async with running_bridge(server, token_leeway=end % 1 or 1.0) as bridge, bridge.stranger() as dashboard:
        await dashboard.connect(token(expires=int(end)))
        assert await dashboard.until_closed() == (1008, "the token has expired")


async def test_more_dashboards_than_the_limit(server: RunningServer) -> None:
    async with running_bridge(server, max_connections=2) as bridge:
        async with bridge.dashboard(), bridge.dashboard(), bridge.stranger() as third:
            assert (await third.until_closed())[0] == 1013
        async with bridge.dashboard() as again:
            await again.settled()


async def test_a_user_has_only_so_many_dashboards(server: RunningServer) -> None:
    async with running_bridge(server, user_connections=2) as bridge:
        async with bridge.dashboard(), bridge.dashboard(), bridge.stranger() as third:
            await third.say("dashboard:connect", token=bridge.token())
            assert await third.until_closed() == (
                1013,
                "the limit of 2 connections of alice (user_connections) is reached",
            )
            async with bridge.stranger() as other:
                await other.connect(bridge.token(subject="bob"))

        async def admitted() -> bool:
            async with bridge.stranger() as again:
                await again.say("dashboard:connect", token=bridge.token())
                await again.until(lambda: bool(again.messages) or again.closed is not None)
                return bool(again.messages)

        assert await eventually(admitted)


async def test_an_address_has_only_so_many_connections_of_strangers(server: RunningServer) -> None:
    async with (
        running_bridge(server, address_connections=2, connect_timeout=60.0) as bridge,
        AsyncExitStack() as connections,
    ):
        for _ in range(3):
            # Those that are known do not count.
            await connections.enter_async_context(bridge.dashboard())
        three = [await connections.enter_async_context(bridge.stranger()) for _ in range(3)]

        async def refused() -> list[tuple[int, str]]:
            return [one.closed for one in three if one.closed is not None]

        reason = "the limit of 2 connections of this address (address_connections) is reached"
        assert await eventually(refused) == [(1013, reason)]


async def test_a_user_that_sends_too_fast_is_told_when_to_go_on(server: RunningServer) -> None:
    async with (
        running_bridge(server, user_message_rate=0.01, user_message_burst=2_000.0) as bridge,
        bridge.dashboard() as one,
        bridge.dashboard() as two,
    ):
        for number in range(70):
            await (one if number % 2 else two).say("ping", requestId=f"ping {number}")
        await one.until(lambda: len(one.of("pong", "error")) == 35)
        await two.until(lambda: len(two.of("pong", "error")) == 35)
        refused = [*one.of("error"), *two.of("error")]
        reasons = {(error["code"], error["reason"]) for error in refused}
        assert reasons == {("RESOURCE_EXHAUSTED", "MESSAGE_RATE_EXCEEDED")}
        assert len(refused) == 50, "on all connections together"
        assert all(0 < error["retryAfterSeconds"] <= 100 for error in refused)
        answer = await bridge.get("/api/agents", bridge.token())
        assert (answer.status, answer.json()["error"]["reason"]) == (429, "MESSAGE_RATE_EXCEEDED")
        assert 0 < int(answer.headers["Retry-After"]) <= 100
        # What ends an overload does not wait for its end.
        answered = await one.refused("command:interrupt", commandId="0198c5f0-0000-7000-8000-000000000000")
        assert answered["code"] == "NOT_FOUND"
        assert (await bridge.get("/api/agents", bridge.token(subject="bob"))).status == 200


async def test_messages_that_cannot_be_read_count_too(server: RunningServer) -> None:
    async with (
        running_bridge(server, user_message_rate=0.01, user_message_burst=300.0) as bridge,
        bridge.dashboard() as dashboard,
    ):
        for _ in range(5):
            await dashboard.socket.send("{")
        await dashboard.until(lambda: len(dashboard.of("error")) == 5)
        reasons = [error["reason"] for error in dashboard.of("error")]
        assert reasons[3:] == ["MESSAGE_RATE_EXCEEDED"] * 2
        assert "MESSAGE_RATE_EXCEEDED" not in reasons[:2]


async def test_forged_tokens_at_a_bridge_are_not_checked_after_too_many(server: RunningServer) -> None:
    async with running_bridge(server, failed_credentials_rate=0.01, failed_credentials_burst=2) as bridge:
        known = bridge.token()
        statuses = [(await bridge.get("/api/agents", token)).status for token in (known, "x", "y", "z", known)]
        assert statuses == [200, 401, 401, 429, 200]
        answer = await bridge.get("/api/agents", bridge.token())
        assert answer.json()["error"]["reason"] == "TOO_MANY_FAILED_CREDENTIALS"
        assert 0 < int(answer.headers["Retry-After"]) <= 100
        metrics = await bridge.get("/metrics", bridge.token())
        assert (metrics.status, "WWW-Authenticate" in metrics.headers) == (429, False)
        assert 0 < int(metrics.headers["Retry-After"]) <= 100
        async with bridge.stranger() as dashboard:
            await dashboard.say("dashboard:connect", token=bridge.token())
            code, reason = await dashboard.until_closed()
        assert code == 1013
        assert "failed_credentials_rate" in reason
        async with bridge.stranger() as dashboard:
            await dashboard.connect(known)


async def test_a_message_of_a_mebibyte_passes_and_no_more(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        text = json.dumps({"type": "ping", "version": "1.0.0", "padding": ""})
        await dashboard.socket.send(text.replace('""', f'"{"x" * (1_048_576 - len(text))}"'))
        await dashboard.first("pong")
        await dashboard.socket.send(text.replace('""', f'"{"x" * (1_048_577 - len(text))}"'))
        assert (await dashboard.until_closed())[0] == 1009


async def test_a_binary_message(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        await dashboard.socket.send(b"{}")
        assert (await dashboard.until_closed())[0] == 1003


async def test_foreign_origins(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    async with running_bridge(server, allowed_origins=("https://ops.example.org",)) as bridge:
        for origin in (f"http://{bridge.address}", "https://ops.example.org"):
            async with bridge.stranger(origin=origin) as dashboard:
                await dashboard.connect(bridge.token())
        for origin in ("https://evil.example.org", "null", "http://127.0.0.1:1", "http://[", "http://", ""):
            with pytest.raises(InvalidStatus) as refused:
                async with bridge.stranger(origin=origin):
                    pass
            assert refused.value.response.status_code == 403
            assert refused.value.response.body == b"this origin is not in allowed_origins\n"
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("text", "reason", "field"),
    [
        ("{", "MALFORMED_JSON", None),
        ("[]", "MALFORMED_JSON", None),
        ("[" * 60_000, "MALFORMED_JSON", None),
        ("[" * 100_000, "TOO_MANY_VALUES", None),
        ('{"type": "ping", "version": "1.0.0", "x": [NaN]}', "MALFORMED_JSON", "x[0]"),
        ('{"type": "ping", "version": "1.0.0", "x": {"a b": [-Infinity]}}', "MALFORMED_JSON", "x['a b'][0]"),
        ('{"type": "ping", "version": "1.0.0", "requestId": "\\ud800"}', "MALFORMED_JSON", "requestId"),
        ('{"type": "ping", "version": "1.0.0", "\\ud800": 1}', "MALFORMED_JSON", "message"),
        ('{"version": "1.0.0"}', "MISSING_FIELD", "type"),
        ('{"type": 1, "version": "1.0.0"}', "INVALID_FIELD", "type"),
        ('{"type": "command:destroy", "version": "1.0.0"}', "UNKNOWN_TYPE", "type"),
        ('{"type": "ping"}', "MISSING_FIELD", "version"),
        ('{"type": "ping", "version": "2.0.0"}', "UNSUPPORTED_VERSION", "version"),
        ('{"type": "subscribe", "version": "1.0.0", "agents": ["a b"]}', "INVALID_AGENT_ID", "agents[0]"),
        ('{"type": "subscribe", "version": "1.0.0", "commands": ["x"]}', "INVALID_COMMAND_ID", "commands[0]"),
        ('{"type": "subscribe", "version": "1.0.0", "output": ["x"]}', "INVALID_FIELD", "output[0]"),
        ('{"type": "dashboard:connect", "version": "1.0.0", "token": "t"}', "ALREADY_CONNECTED", "type"),
    ],
)
async def test_what_is_malformed_is_said_and_the_connection_stays(
    bridge: RunningBridge, text: str, reason: str, field: str | None
) -> None:
    async with bridge.dashboard() as dashboard:
        await dashboard.socket.send(text)
        error = await dashboard.first("error")
        await dashboard.settled()
    assert (error["reason"], error.get("field")) == (reason, field)


async def test_an_unknown_type_is_named(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        error = await dashboard.refused("command:destroy")
    assert "'command:destroy'" in error["message"]
    assert error["requestId"] == "refused"


async def test_unknown_fields_are_ignored(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        required = {"dashboard:connect", "dashboard:renew", "command:request", "command:retry", "command:interrupt"}
        for_administrators = {type_ for type_, need in MESSAGES.items() if need is Need.ADMIN}
        for type_ in types_of("clientMessage") - required - for_administrators:
            await dashboard.say(type_, whatever={"is": "new"}, version_="2")
        await dashboard.settled()
    assert not dashboard.of("error")


async def test_roles_are_told(bridge: RunningBridge) -> None:
    async with bridge.stranger() as dashboard:
        assert (await dashboard.connect(bridge.token(READ)))["roles"] == [READ]
    async with bridge.stranger() as dashboard:
        assert (await dashboard.connect(bridge.token()))["roles"] == [WRITE, READ]


async def test_a_fault_of_our_own_is_logged_and_ends_the_connection_with_a_code(
    bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    with patch.object(SnapshotSync, "subscribe", side_effect=ZeroDivisionError("ours")):
        async with bridge.dashboard() as dashboard:
            await dashboard.say("subscribe", agents=["*"])
            code, reason = await dashboard.until_closed()
    assert (code, reason) == (1011, "internal error in the bridge; see its log")
    assert "dashboard connection failed" in caplog.text
