"""What a bridge says is insecure about its server, while that is replaced by others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest

from distributor.identity.caller import CallerKind
from tests.support.dashboard_client import DashboardClient
from tests.support.replaced_server import replaced_server
from tests.support.running_bridge import TOKEN_KEY, bridge_settings, running_bridge, token_of

EVERYWHERE: Final = "0.0.0.0"
AUTHENTICATED: Final[dict[str, Any]] = {"token_key": TOKEN_KEY}


async def until_insecure(dashboard: DashboardClient, expected: Sequence[str]) -> None:
    """Wait until the latest status says this of an available server."""

    def said() -> bool:
        statuses = dashboard.of("bridge:status")
        return bool(statuses) and statuses[-1]["server"]["available"] and statuses[-1]["insecure"] == expected

    await dashboard.until(said)


async def test_the_bridge_says_live_what_is_insecure_about_its_server(valkey_url: str) -> None:
    async with replaced_server(valkey_url) as replaced:
        server = await replaced.serve()
        delegate = token_of(bridge_settings(server), "delegate", subject="bridge", kind=CallerKind.SERVICE)
        async with (
            running_bridge(server, server_check_interval=0.1, server_token=delegate) as bridge,
            bridge.dashboard() as dashboard,
        ):
            await until_insecure(dashboard, ["server_unauthenticated"])
            await replaced.serve(**AUTHENTICATED)
            await until_insecure(dashboard, [])
            await replaced.serve(EVERYWHERE, insecure=True, http_listen=f"{EVERYWHERE}:0", **AUTHENTICATED)
            await until_insecure(dashboard, ["server_plain_text", "server_plain_http"])
            await replaced.serve(http_listen=f"{EVERYWHERE}:0", insecure=True)
            await until_insecure(dashboard, ["server_unauthenticated", "server_plain_http"])
            # A dashboard that comes now learns the same at once.
            async with bridge.dashboard() as later:
                await until_insecure(later, ["server_unauthenticated", "server_plain_http"])


async def test_what_the_server_last_said_counts_while_it_is_away(valkey_url: str) -> None:
    async with replaced_server(valkey_url) as replaced:
        server = await replaced.serve()
        async with running_bridge(server, server_check_interval=0.1) as bridge, bridge.dashboard() as dashboard:
            await until_insecure(dashboard, ["server_unauthenticated"])
            await server.process.stop()
            await dashboard.until(lambda: not dashboard.of("bridge:status")[-1]["server"]["available"])
            assert dashboard.of("bridge:status")[-1]["insecure"] == ["server_unauthenticated"]


@pytest.mark.parametrize("insecure", [True, False])
async def test_a_server_on_loopback_with_authentication_is_not_insecure(valkey_url: str, insecure: bool) -> None:
    async with replaced_server(valkey_url) as replaced:
        server = await replaced.serve(insecure=insecure, **AUTHENTICATED)
        delegate = token_of(bridge_settings(server), "delegate", subject="bridge", kind=CallerKind.SERVICE)
        async with (
            running_bridge(server, server_check_interval=0.1, server_token=delegate) as bridge,
            bridge.dashboard() as dashboard,
        ):
            await until_insecure(dashboard, [])
