"""What a server says of its caller."""

from __future__ import annotations

import pytest

from distributor.client import ClientCredentials, ClientOptions
from distributor.client.identity_client import Identity, IdentityClient
from distributor.errors import Unauthenticated
from distributor.identity.caller import Caller, CallerKind
from distributor.identity.grants import Grant
from distributor.identity.roles import Role, with_included
from tests.support.known_callers import ADMIN, AGENT, KnownCallers, user
from tests.support.running_server import running_server
from tests.support.token_issuer import KEY, signed

NARROW = user(
    "nina",
    Role.VIEWER,
    grants=(Grant(agents=("web-*",), labels={"site": "a"}, types=("PING",)), Grant(types=("EXEC",))),
)
BRIDGE = Caller(CallerKind.SERVICE, "bridge", with_included([Role.OPERATOR]), on_behalf_of="alice", expires=1e9 + 0.5)


async def who_is(address: str, token: str) -> Identity:
    options = ClientOptions(credentials=ClientCredentials(token=token))
    async with IdentityClient(address, options) as client:
        return await client.who_am_i()


async def test_each_kind_of_caller_is_named_with_what_it_may_do(valkey_url: str) -> None:
    known = KnownCallers(ADMIN, AGENT, NARROW, BRIDGE)
    async with running_server(valkey_url, authenticator=known) as server:
        admin = await who_is(server.address, "ada")
        assert admin == Identity("user", "ada", "", ("viewer", "operator", "admin"), None, 0, "127.0.0.1")
        agent = await who_is(server.address, "agent123")
        assert (agent.kind, agent.subject, agent.roles) == ("agent", "agent123", ())
        narrow = await who_is(server.address, "nina")
        assert narrow.grants == (
            {"agents": ["web-*"], "labels": {"site": "a"}, "types": ["PING"]},
            {"types": ["EXEC"]},
        )
        bridge = await who_is(server.address, "bridge")
        assert (bridge.on_behalf_of, bridge.expires_ms) == ("alice", 1_000_000_000_500)


async def test_an_empty_list_of_grants_is_not_everything(valkey_url: str) -> None:
    async with running_server(valkey_url, authenticator=KnownCallers(user("no", Role.VIEWER, grants=()))) as server:
        assert (await who_is(server.address, "no")).grants == ()


async def test_everyone_is_unknown_while_authentication_is_off(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        identity = await who_is(server.address, "")
        assert not identity.known
        assert identity.insecure == ("unauthenticated",)
        assert identity.roles == ("viewer", "operator", "admin")


async def test_a_server_says_what_other_hosts_reach_in_plain_text(valkey_url: str) -> None:
    exposed = {"listen": "0.0.0.0:0", "http_listen": "0.0.0.0:0", "insecure": True}
    async with running_server(valkey_url, token_key=KEY, **exposed) as server:
        token = signed(exp=4_000_000_000, scope="", roles=["operator"])
        assert (await who_is(server.address, token)).insecure == ("plain_text", "plain_http")


async def test_a_token_says_who_calls_and_until_when(valkey_url: str) -> None:
    async with running_server(valkey_url, token_key=KEY) as server:
        identity = await who_is(server.address, signed(exp=4_000_000_000, scope="", roles=["operator"]))
        assert identity == Identity("user", "alice", "", ("viewer", "operator"), None, 4_000_000_000_000, "127.0.0.1")
        with pytest.raises(Unauthenticated):
            await who_is(server.address, "")
