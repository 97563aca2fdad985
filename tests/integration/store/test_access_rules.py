"""The ACLs allow what servers and bridges do, and nothing else. Other tests of the stores run under them as well."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from valkey.asyncio import Valkey
from valkey.exceptions import NoPermissionError

from distributor.store.access_rules import access_line, allowed_commands
from tests.support.limited_user import denied, limited_to
from tests.support.running_bridge import running_bridge
from tests.support.running_server import running_server
from tests.support.source_tree import PACKAGE

STORE: Final = PACKAGE / "store"
BY_THE_DRIVER: Final = {"CLIENT", "SELECT"}
NOT_SENT: Final = {"PING", "READONLY", "WAITAOF"}
"""PING is a type of command here, READONLY the code of an error; WAITAOF is sent only by a user without CONFIG."""
OF_THE_EMBEDDED: Final = {"embedded.py", "access_rules.py"}
READ_BY_BRIDGES: Final = (
    "command_reader.py",
    "event_log.py",
    "output_log.py",
    "stop_store.py",
    "valkey_check.py",
    "functions/get_command.lua",
    "functions/list_commands.lua",
    "functions/read_agents.lua",
    "functions/read_output.lua",
    "functions/revocations.lua",
)


async def named_in(paths: Iterable[Path], valkey_url: str) -> set[str]:
    """The commands of Valkey that these sources name."""
    async with Valkey.from_url(valkey_url) as client:
        known = {name.upper() for name in await client.command()}
    words = (word for path in paths for word in re.findall(r"""['"]([A-Z_]+)['"]""", path.read_text()))
    return {word for word in words if word in known} - NOT_SENT


def heads(commands: Iterable[str]) -> set[str]:
    return {command.partition("|")[0] for command in commands} - BY_THE_DRIVER


async def test_a_server_may_do_what_the_stores_do(valkey_url: str) -> None:
    """When the stores use another command, add it to `access_rules.py`."""
    sources = [path for path in STORE.rglob("*") if path.suffix in (".py", ".lua") and path.name not in OF_THE_EMBEDDED]
    assert await named_in(sources, valkey_url) == heads(allowed_commands("server"))


async def test_a_bridge_may_do_what_its_readers_do(valkey_url: str) -> None:
    named = await named_in([STORE / path for path in READ_BY_BRIDGES], valkey_url)
    assert named | {"FCALL_RO"} == heads(allowed_commands("bridge"))


async def test_nothing_is_denied_to_a_server_and_a_bridge(valkey_url: str) -> None:
    await denied(valkey_url)
    async with (
        running_server(await limited_to(valkey_url, "server")) as server,
        running_bridge(server, valkey_url=await limited_to(valkey_url, "bridge")) as bridge,
        server.agent() as agent,
        bridge.dashboard() as dashboard,
    ):
        command_id = await dashboard.request("agent123", commandType="PRINT")
        await agent.finish((await agent.assigned())[0])
        await server.result(command_id)
        assert (await bridge.get(f"/api/commands/{command_id}")).status == 200
        assert (await bridge.get("/api/agents")).status == 200
    assert await denied(valkey_url) == []


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("bridge", ("SET", "command:queue:1", "x")),
        ("bridge", ("FCALL", "anything", 1, "events")),
        ("bridge", ("PUBLISH", "distributor:commit", "")),
        ("server", ("SET", "another:key", "x")),
        ("server", ("FLUSHALL",)),
        ("server", ("CONFIG", "SET", "appendonly", "no")),
        ("server", ("EVAL", "return 1", 0)),
        ("server", ("ACL", "LIST")),
        ("server", ("PUBLISH", "another", "")),
        ("server", ("KEYS", "*")),
    ],
)
async def test_what_neither_needs_is_denied(valkey_url: str, program: str, command: tuple[str, ...]) -> None:
    url = await limited_to(valkey_url, "bridge" if program == "bridge" else "server")
    async with Valkey.from_url(url) as client:
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command)


def test_the_line_is_one_for_an_acl_file() -> None:
    line = access_line("distributor", "server")
    assert line.startswith("user distributor on >PASSWORD resetkeys resetchannels -@all %R~* ~agent:*:assigned ")
    assert "\n" not in line
