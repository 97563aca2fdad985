"""`distributor enrol-token`, `revoke`, `restore` and `revocations`: the bodies of the commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distributor.cli.admin_calls import admin_client
from distributor.cli.exit_codes import ExitCode
from distributor.cli.label_options import label_pairs
from distributor.cli.one_line import one_line
from distributor.cli.sender.columns import format_table
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.tables import short_time
from distributor.cli.token import seconds_of
from distributor.client.credential_client import CredentialClient
from distributor.model.enrolment import MAX_TOKEN_LIFETIME_MS, is_pattern
from distributor.model.revocation import Revocation
from distributor.wire.documents import time_text

Action = Callable[[CredentialClient, Screen], Coroutine[Any, Any, ExitCode]]


def administer(config: Path | None, server: str | None, output: str, action: Action) -> int:
    """Run `action` with a client and a screen; return its exit code."""

    async def call() -> ExitCode:
        async with admin_client(CredentialClient, config, server) as client:
            return await action(client, Screen(output))

    return int(asyncio.run(call()))


def make_token(agents: str, labels: Sequence[str], uses: int, expires_in: str) -> Action:
    """Make a token and print it alone, so that it can be piped to a host."""
    lifetime, pairs = seconds_of(expires_in, MAX_TOKEN_LIFETIME_MS // 86_400_000), label_pairs(labels)

    async def make(client: CredentialClient, screen: Screen) -> ExitCode:
        token = await client.enrolment_token(agents, pairs, uses, lifetime)
        if screen.for_people:
            serves = "once" if uses == 1 else f"{uses:,} times"
            screen.message(
                f"token {token.token_id} serves {serves} until {time_text(token.expires_ms)}; on the host:\n"
                f"{enrol_command(agents)}"
            )
            screen.text(token.text)
        else:
            expires = time_text(token.expires_ms)
            screen.document({"token": token.text, "tokenId": token.token_id, "expireTime": expires})
        return ExitCode.SUCCESS

    return make


def enrol_command(agents: str) -> str:
    """The command that enrols an agent: the id is that of its host unless given, which the token may not admit."""
    agent_id = "ID" if is_pattern(agents) else agents
    return f"command-agent enrol --agent {agent_id} --server HOST:PORT < TOKEN"


class Revoked(NamedTuple):
    """What to revoke: one of the three is not empty."""

    agent_id: str = ""
    token_id: str = ""
    service: str = ""


def revoke(what: Revoked, reason: str) -> Action:
    """Revoke an agent, a token or a service."""

    async def call(client: CredentialClient, screen: Screen) -> ExitCode:
        if what.token_id:
            entry = await client.revoke_token(what.token_id, reason)
        elif what.service:
            entry = await client.revoke_service(what.service, reason)
        else:
            entry = await client.revoke_agent(what.agent_id, reason)
        _show(screen, [entry])
        return ExitCode.SUCCESS

    return call


def restore(agent_id: str, service: str) -> Action:
    """Restore an agent or a service."""

    async def call(client: CredentialClient, screen: Screen) -> ExitCode:
        if service:
            await client.restore_service(service)
            screen.message(f"what service {service} was issued counts again")
            return ExitCode.SUCCESS
        await client.restore_agent(agent_id)
        screen.message(f"the certificates of agent {agent_id} count again")
        return ExitCode.SUCCESS

    return call


async def list_revocations(client: CredentialClient, screen: Screen) -> ExitCode:
    """Show all revocations."""
    _show(screen, await client.revocations())
    return ExitCode.SUCCESS


def _show(screen: Screen, entries: Sequence[Revocation]) -> None:
    if not screen.for_people:
        screen.document([_document(entry) for entry in entries])
        return
    if not entries:
        screen.text("nothing is revoked")
        return
    now_ms = round(time.time() * 1000)
    table = {
        "revoked": [f"{entry.kind} {one_line(entry.subject)}" for entry in entries],
        "since": [short_time(entry.revoked_ms, now_ms) for entry in entries],
        "by": [one_line(entry.revoked_by) or "-" for entry in entries],
        "reason": [one_line(entry.reason) for entry in entries],
    }
    screen.text(format_table(table))


def _document(entry: Revocation) -> dict[str, Any]:
    return {
        "kind": entry.kind.value,
        "subject": entry.subject,
        "revokeTime": time_text(entry.revoked_ms),
        "generation": entry.generation,
        "revokedBy": entry.revoked_by,
        "reason": entry.reason,
    }
