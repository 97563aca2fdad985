"""Signing in on the page, tokens that are renewed or revoked, and what each role may send and read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from email.message import Message
from typing import Any, Final

import pytest
from websockets.exceptions import InvalidStatus

from distributor.bridge import dashboard_session
from distributor.bridge.session_cookie import MAX_TOKEN_CHARACTERS
from distributor.identity.caller import CallerKind
from distributor.identity.permissions import MESSAGES, ROUTES, Need
from distributor.identity.tokens import Revoked
from distributor.v1.credentials_pb2 import RevokeServiceRequest, RevokeTokenRequest
from distributor.v1.credentials_pb2_grpc import CredentialServiceStub
from tests.support.protocol_schema import types_of
from tests.support.running_bridge import Answer, RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS

UNKNOWN_ID: Final = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"
ROLES: Final = ("viewer", "operator", "admin", "delegate")
EVIL: Final = "https://evil.example.org"


def own_page(bridge: RunningBridge) -> dict[str, str]:
    """The headers that a browser adds to a request of the bridge's page."""
    return {"Origin": f"http://{bridge.address}", "Sec-Fetch-Site": "same-origin"}


async def signed_in(bridge: RunningBridge, token: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    return await bridge.call("POST", "/session", headers or own_page(bridge), {"token": token or bridge.token()})


def cookie_of(answer: Answer) -> str:
    """The cookie as the browser sends it back."""
    return answer.headers["Set-Cookie"].partition(";")[0]


def attributes_of(headers: Message) -> set[str]:
    """The attributes of the cookie, without its value."""
    return {part.strip().lower().partition("=")[0] for part in headers["Set-Cookie"].split(";")[1:]}


# The page's session


async def test_a_session_is_in_a_cookie_that_no_script_and_no_other_site_can_use(bridge: RunningBridge) -> None:
    answer = await signed_in(bridge)
    assert answer.status == 200
    document = answer.json()
    assert (document["userId"], document["roles"]) == ("alice", ["operator", "viewer"])
    assert "token" not in document
    assert {"httponly", "samesite", "path", "max-age"} <= attributes_of(answer.headers)
    assert "SameSite=strict" in answer.headers["Set-Cookie"]
    assert answer.headers["Cache-Control"] == "no-store"


async def test_over_tls_the_cookie_is_bound_to_its_host(bridge: RunningBridge) -> None:
    answer = await signed_in(bridge, headers={"Origin": f"https://{bridge.address}"})
    assert answer.status == 200
    assert answer.headers["Set-Cookie"].startswith("__Host-distributor-session")
    assert "secure" in attributes_of(answer.headers)
    assert "domain" not in attributes_of(answer.headers)


async def test_the_page_reads_and_connects_with_its_session(bridge: RunningBridge) -> None:
    cookie = {"Cookie": cookie_of(await signed_in(bridge))}
    shown = await bridge.call("GET", "/session", cookie)
    assert (shown.status, shown.json()["userId"]) == (200, "alice")
    assert (await bridge.call("GET", "/api/agents", {**cookie, **own_page(bridge)})).status == 200
    assert (await bridge.call("GET", "/api/agents", cookie)).status == 200
    origin = own_page(bridge)["Origin"]
    async with bridge.stranger(origin=origin, additional_headers=cookie) as dashboard:
        await dashboard.say("dashboard:connect")
        assert (await dashboard.first("connected"))["userId"] == "alice"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_other_sites_can_neither_sign_in_nor_out(bridge: RunningBridge, method: str) -> None:
    for headers in ({}, {"Origin": EVIL}, {"Origin": "null"}, {"Origin": f"http://{bridge.address}.evil.example"}):
        answer = await bridge.call(method, "/session", headers, {"token": bridge.token()})
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers


async def test_the_cookie_is_nothing_from_another_origin(server: RunningServer) -> None:
    async with running_bridge(server, allowed_origins=("*",)) as bridge:
        cookie = {"Cookie": cookie_of(await signed_in(bridge))}
        async with bridge.stranger(origin=EVIL, additional_headers=cookie) as dashboard:
            await dashboard.say("dashboard:connect")
            assert await dashboard.until_closed() == (1008, "token is required")
        async with bridge.stranger(additional_headers=cookie) as dashboard:
            await dashboard.say("dashboard:connect")
            assert (await dashboard.until_closed())[0] == 1008, "a WebSocket of a browser names its origin"
        for headers in ({"Origin": EVIL}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
            assert (await bridge.call("GET", "/api/agents", {**cookie, **headers})).status == 401
        async with bridge.stranger(origin=EVIL) as dashboard:
            await dashboard.connect(bridge.token())


async def test_signing_out_removes_the_cookie(bridge: RunningBridge) -> None:
    answer = await bridge.call("DELETE", "/session", own_page(bridge))
    assert answer.status == 204
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({}, 401),
        ({"token": ""}, 401),
        ({"token": 7}, 400),
        ([], 400),
        ({"token": "not a token"}, 401),
        ({"token": "x" * 20_000}, 400),
    ],
)
async def test_who_cannot_sign_in(bridge: RunningBridge, document: object, status: int) -> None:
    answer = await bridge.call("POST", "/session", own_page(bridge), document)
    assert answer.status == status
    assert "Set-Cookie" not in answer.headers


async def test_a_form_of_another_site_is_not_read(bridge: RunningBridge) -> None:
    headers = {**own_page(bridge), "Content-Type": "text/plain"}
    assert (await bridge.call("POST", "/session", headers)).status == 400


async def test_a_token_that_no_cookie_holds(bridge: RunningBridge) -> None:
    token = bridge.token(agents=[f"{place:0>100}" for place in range(30)])
    assert len(token) > MAX_TOKEN_CHARACTERS
    answer = await signed_in(bridge, token)
    assert (answer.status, answer.json()["error"]["reason"]) == (400, "TOKEN_TOO_LONG")


async def test_who_may_not_see_anything_cannot_sign_in(bridge: RunningBridge) -> None:
    assert (await signed_in(bridge, bridge.token("delegate"))).status == 403


async def test_in_dev_the_page_signs_in_by_itself(server: RunningServer) -> None:
    async with running_bridge(server, dev=True) as bridge:
        dev = {**own_page(bridge), "X-Distributor-Dev": "1"}
        assert (await bridge.call("GET", "/session", dev)).json()["signsIn"] is True
        answer = await bridge.call("POST", "/session", dev, {})
        assert (answer.status, answer.json()["userId"]) == (200, "developer")
        assert (await bridge.call("POST", "/session", own_page(bridge), {})).status == 401


async def test_a_session_that_has_ended_says_why(bridge: RunningBridge) -> None:
    answer = await bridge.call("GET", "/session", {"Cookie": f"distributor-session-{bridge.process.port}=not.a.token"})
    assert (answer.status, answer.json()["userId"], answer.json()["problem"]) == (200, None, "the token is not a JWT")


# Addresses


@pytest.mark.parametrize("name", ["token", "access_token", "Token", "%74oken", "id_token"])
async def test_a_token_in_the_address_is_refused(bridge: RunningBridge, name: str) -> None:
    for path in ("/api/agents", "/", "/session", "/metrics"):
        answer = await bridge.get(f"{path}?a=1&{name}={bridge.token()}")
        assert (answer.status, b"must not be in the address" in answer.body) == (400, True)
    with pytest.raises(InvalidStatus) as refused:
        async with bridge.stranger_at(f"/ws?{name}={bridge.token()}"):
            pass
    assert refused.value.response.status_code == 400


# Renewal and revocation


async def test_a_connection_goes_on_with_a_new_token(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_session, "REVOCATION_CHECK_SECONDS", 0.05)
    async with running_bridge(server, token_leeway=0.01) as bridge, bridge.stranger() as dashboard:
        connected = await dashboard.connect(bridge.token(lifetime="3s"))
        await dashboard.say("dashboard:renew", token=bridge.token(lifetime="1h"), requestId="r")
        renewed = await dashboard.first("renewed", requestId="r")
        assert renewed["expireTime"] > connected["expireTime"]
        await asyncio.sleep(max(0.0, 3.1 - time.time() % 1))
        await dashboard.settled()


async def test_a_new_token_must_be_of_the_same_caller(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        for token, reason in (
            (bridge.token(subject="mallory"), "OTHER_CALLER"),
            (bridge.token(agents=["other"]), "OTHER_CALLER"),
            (bridge.token("delegate"), "ROLE_MISSING"),
            ("not a token", "TOKEN_REFUSED"),
        ):
            count = len(dashboard.of("error"))
            await dashboard.say("dashboard:renew", token=token)
            await dashboard.settled()
            assert [error["reason"] for error in dashboard.of("error")[count:]] == [reason]


async def test_a_renewal_changes_what_the_caller_may_do(bridge: RunningBridge) -> None:
    async with bridge.dashboard("viewer") as dashboard:
        refused = await dashboard.refused("command:request", agentId="agent123", command="true")
        assert refused["reason"] == "ROLE_MISSING"
        await dashboard.say("dashboard:renew", token=bridge.token("operator"))
        await dashboard.first("renewed")
        await dashboard.request("agent123", command="true", offline="queue")


async def test_a_revoked_token_ends_its_connection(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        (connected,) = bridge.process.parts.hub.dashboards
        revoked = set(connected.caller.token_ids)
        bridge.process.parts.keys.verifier.revoked = Revoked(revoked.__contains__)
        began = time.monotonic()
        assert await dashboard.until_closed(PATIENCE_SECONDS) == (1008, "the token is revoked")
        assert time.monotonic() - began < 10


async def test_a_removed_key_ends_the_connections_of_its_tokens(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bridge.dashboard() as dashboard:
        (connected,) = bridge.process.parts.hub.dashboards
        (key,) = connected.caller.basis.keys
        verifier = bridge.process.parts.keys.verifier
        assert verifier.accepts_key(key)
        monkeypatch.setattr(verifier, "accepts_key", lambda one: one != key)
        assert await dashboard.until_closed(PATIENCE_SECONDS) == (
            1008,
            "the key that signed the token is no longer accepted",
        )


async def test_a_token_revoked_at_the_server_is_refused_and_ends_its_connection(
    server: RunningServer, bridge: RunningBridge
) -> None:
    token = bridge.token()
    async with bridge.stranger() as dashboard:
        await dashboard.connect(token)
        (connected,) = bridge.process.parts.hub.dashboards
        (token_id,) = connected.caller.token_ids
        await CredentialServiceStub(server.channel).RevokeToken(RevokeTokenRequest(token_id=token_id))
        assert await dashboard.until_closed(10) == (1008, "the token is revoked")
    assert (await bridge.get("/api/agents", token)).json()["error"]["reason"] == "TOKEN_REVOKED"


async def test_a_service_revoked_at_the_server_is_refused_and_its_connection_ends(
    server: RunningServer, bridge: RunningBridge
) -> None:
    token = bridge.token(subject="wallboard", kind=CallerKind.SERVICE)
    async with bridge.stranger() as dashboard:
        await dashboard.connect(token)
        await CredentialServiceStub(server.channel).RevokeService(RevokeServiceRequest(service="wallboard"))
        assert await dashboard.until_closed(PATIENCE_SECONDS) == (1008, "the token is revoked")
    assert (await bridge.get("/api/agents", token)).json()["error"]["reason"] == "TOKEN_REVOKED"


# Every message and every route


def message(type_: str) -> dict[str, Any]:
    """A message of this type that passes its checks."""
    fields: dict[str, dict[str, Any]] = {
        "command:request": {"agentId": "agent123", "command": "true", "offline": "queue"},
        "command:retry": {"commandId": UNKNOWN_ID},
        "command:interrupt": {"commandId": UNKNOWN_ID},
    }
    return fields.get(type_, {})


def test_the_table_names_the_messages_that_there_are() -> None:
    assert types_of("clientMessage") == MESSAGES.keys()


async def test_no_message_is_answered_without_a_token(bridge: RunningBridge) -> None:
    for type_ in MESSAGES:
        async with bridge.stranger() as dashboard:
            await dashboard.say(type_, **message(type_))
            assert (await dashboard.until_closed())[0] == 1008, type_
            assert not dashboard.messages


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_may_send_what_the_table_says(bridge: RunningBridge, role: str) -> None:
    async with bridge.stranger() as dashboard:
        await dashboard.say("dashboard:connect", token=bridge.token(role))
        if role == "delegate":
            assert (await dashboard.until_closed())[0] == 1008
            return
        await dashboard.first("connected")
        # `settled` sends pings, and waits for the answer to its own.
        for type_ in MESSAGES.keys() - {"dashboard:connect", "ping"}:
            count = len(dashboard.of("error"))
            await dashboard.say(type_, requestId=type_, **message(type_))
            await dashboard.settled()
            missing = [error for error in dashboard.of("error")[count:] if error["reason"] == "ROLE_MISSING"]
            needed = {Need.VIEWER: ROLES, Need.OPERATOR: ("operator", "admin"), Need.ADMIN: ("admin",)}
            may = role in needed[MESSAGES[type_]]
            assert bool(missing) is not may, type_


def paths_of(bridge: RunningBridge) -> set[str]:
    """The paths that the bridge really serves."""
    app: Any = bridge.process.parts.endpoint._app
    return {getattr(route, "path", "") for route in app.routes}


async def test_the_table_names_the_routes_that_there_are(server: RunningServer) -> None:
    async with running_bridge(server, dev=True) as bridge:
        assert paths_of(bridge) == ROUTES.keys()


async def test_no_route_answers_without_a_token(bridge: RunningBridge) -> None:
    for path, need in ROUTES.items():
        if need is Need.VIEWER:
            asked = path.replace("{command_id}", UNKNOWN_ID).replace("{rest:path}", "x")
            for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}, {"Cookie": "x=y"}):
                assert (await bridge.call("GET", asked, headers)).status == 401, path
    nobody: dict[str, Any] = {"userId": None, "roles": [], "expireTime": None, "signsIn": False}
    assert (await bridge.call("GET", "/session", {})).json() == nobody


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_may_read_what_the_table_says(bridge: RunningBridge, role: str) -> None:
    for path, need in ROUTES.items():
        if need is Need.VIEWER:
            asked = path.replace("{command_id}", UNKNOWN_ID).replace("{rest:path}", "x")
            status = (await bridge.get(asked, bridge.token(role))).status
            assert (status == 403) is (role == "delegate"), path
            assert status != 401
