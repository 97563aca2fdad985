"""A user of the test's Valkey with the permissions of a server or a bridge."""

from __future__ import annotations

from urllib.parse import quote

from valkey.asyncio import Valkey

from distributor.store.access_rules import Program, access_line

PASSWORD = "of the limited user"


async def limited_to(valkey_url: str, program: Program) -> str:
    """The URL of that Valkey for such a user, which this makes."""
    user = f"limited-{program}"
    _, *words = access_line(user, program).split(" ")
    async with Valkey.from_url(valkey_url) as administrator:
        await administrator.execute_command("ACL", "SETUSER", *(word.replace("PASSWORD", PASSWORD) for word in words))
    scheme, _, rest = valkey_url.partition("://")
    return f"{scheme}://{user}:{quote(PASSWORD, safe='')}@{rest.rpartition('@')[2]}"


async def denied(valkey_url: str) -> list[str]:
    """What was denied to users since the last call."""
    async with Valkey.from_url(valkey_url, decode_responses=True) as administrator:
        entries = await administrator.acl_log()
        await administrator.acl_log_reset()
    return [f"{entry['username']} {entry['reason']} {entry['object']}" for entry in entries]
