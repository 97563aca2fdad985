"""Which settings of a Valkey are refused or warned of, for the durability that is wanted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from valkey.asyncio import Valkey

from distributor.errors import ConfigurationError, Unavailable
from distributor.store.durability import Durability, SyncedByUs, SyncedByValkey, SyncedUnseen, WrittenFirst
from distributor.store.embedded import EmbeddedValkey
from tests.support.durable_store import durable_world
from tests.support.external_valkey import ExternalValkey
from tests.support.own_logs import own_logs

FINE = {"appendfsync": "always", "no_appendfsync_on_rewrite": "no"}


@pytest.mark.parametrize(
    ("wanted", "settings", "kind", "warning"),
    [
        ("process", {"appendfsync": "everysec"}, WrittenFirst, ""),
        ("process", {"appendfsync": "always"}, WrittenFirst, ""),
        ("process", {"appendfsync": "no"}, WrittenFirst, "the operating system decides what a power failure loses"),
        ("process", {"appendonly": "no"}, Durability, "appendonly no"),
        ("process", {"no_appendfsync_on_rewrite": "yes"}, WrittenFirst, "no-appendfsync-on-rewrite yes"),
        ("process", {**FINE, "aof_load_truncated": "no"}, WrittenFirst, "aof-load-truncated no"),
        ("disk", FINE, SyncedByValkey, ""),
    ],
)
async def test_what_is_accepted(
    tmp_path: Path, wanted: str, settings: dict[str, str], kind: type[Durability], warning: str
) -> None:
    async with ExternalValkey(tmp_path / "data", **settings) as valkey:
        with own_logs() as logs:
            async with durable_world(valkey.url, wanted) as world:
                assert type(world.durability) is kind
                postpones = kind is WrittenFirst and "always" not in settings.values() and "no" not in settings.values()
                assert bool(world.durability.proof) == (postpones or wanted == "disk")
                assert await world.queued()
    assert [warning in (line.get("setting") or line["event"]) for line in logs] == ([True] if warning else [])


@pytest.mark.parametrize(
    ("wanted", "settings", "message"),
    [
        ("disk", {"appendfsync": "everysec"}, "appendfsync is everysec; set it to always"),
        ("disk", {"appendfsync": "no"}, "appendfsync is no; set it to always"),
        ("disk", {"appendonly": "no"}, "appendonly is no; set it to yes"),
        ("disk", {**FINE, "no_appendfsync_on_rewrite": "yes"}, "no-appendfsync-on-rewrite is yes; set it to no"),
        ("replicated", {"appendonly": "no"}, "appendonly is no; set it to yes"),
        ("replicated", {}, "0 replicas are connected, and replicas_acked is 1; start replicas"),
    ],
)
async def test_what_is_refused(tmp_path: Path, wanted: str, settings: dict[str, str], message: str) -> None:
    async with ExternalValkey(tmp_path / "data", **settings) as valkey:
        with pytest.raises(
            ConfigurationError, match=f"cannot give durability {wanted}: {re.escape(message)}"
        ) as caught:
            async with durable_world(valkey.url, wanted):
                pass
    assert caught.value.reason == "VALKEY_NOT_DURABLE"
    assert caught.value.field == "durability"


@pytest.mark.parametrize(("wanted", "kind"), [("process", WrittenFirst), ("disk", SyncedUnseen)])
async def test_where_config_is_forbidden_the_rest_is_checked(
    tmp_path: Path, wanted: str, kind: type[Durability]
) -> None:
    async with ExternalValkey(tmp_path / "data", appendfsync="always") as valkey:
        async with Valkey.from_url(valkey.url) as client:
            await client.execute_command("ACL", "SETUSER", "default", "-config")
        with own_logs() as logs:
            async with durable_world(valkey.url, wanted) as world:
                assert type(world.durability) is kind
                assert await world.queued()
        assert logs[0]["event"] == "cannot check the settings of Valkey on which durability depends"
        assert logs[0]["unchecked"] == "appendfsync, no-appendfsync-on-rewrite, aof-load-truncated"
        assert ("must be always" in logs[-1]["event"]) == (wanted == "disk")


async def test_where_config_is_forbidden_waitaof_notices_that_nothing_is_fsynced(tmp_path: Path) -> None:
    async with ExternalValkey(tmp_path / "data", appendfsync="always") as valkey, Valkey.from_url(valkey.url) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-config")
        async with durable_world(valkey.url, "disk") as world:
            assert isinstance(world.durability, SyncedUnseen)
            world.durability.proof = ("WAITAOF", 1, 0, 100)
            await client.execute_command("ACL", "SETUSER", "default", "+config")
            await valkey.set("appendfsync", "no")
            with pytest.raises(Unavailable, match="Valkey did not fsync it in time"):
                await world.queued()
            await valkey.set("appendonly", "no")
            with pytest.raises(Unavailable, match="appendonly is disabled"):
                await world.queued()


async def test_the_embedded_one_can_do_both(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as server:
        for wanted, kind in (("process", Durability), ("disk", SyncedByUs)):
            with own_logs() as logs:
                async with durable_world(server.url, wanted, server) as world:
                    assert type(world.durability) is kind
            assert not logs
