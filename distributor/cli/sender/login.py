"""The bodies of login, logout and whoami."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from distributor.cli.exit_codes import ExitCode
from distributor.cli.sender.identity_text import identity_document, identity_text, login_text
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.server_calls import ServerCalls
from distributor.cli.sender.token_input import read_token
from distributor.client import ClientCredentials, ClientOptions
from distributor.client.identity_client import Identity, IdentityClient
from distributor.errors import NotFound
from distributor.settings import ClientSettings, load_client_settings
from distributor.settings.caller_settings import TARGET_SETTINGS, CallerSettings
from distributor.settings.contexts import (
    CONTEXT_SETTINGS,
    Context,
    change_contexts,
    check_context_name,
    context_name_of,
    read_contexts,
    store_context,
)


def log_in(connection: ServerCalls, *, verify: bool) -> ExitCode:
    """Read a token unless a certificate is given, verify it with the server, and store the context.

    Stores nothing if that fails. Raises DistributorError.
    """
    name, settings = _target(connection)
    if not settings.tls_cert:
        settings = settings.model_copy(update={"token": SecretStr(read_token(connection.token_file))})
    context = _context(name, settings)
    identity = asyncio.run(_identity(settings)) if verify else None
    store_context(context, use=True)
    if identity is None:
        click.echo(f"Stored the context {name} for {settings.server}, not verified.")
    else:
        click.echo(login_text(identity, settings.server, name))
    return ExitCode.SUCCESS


def log_out(connection: ServerCalls) -> ExitCode:
    """Remove the credentials from a context. Raises NotFound if there is none."""
    contexts = read_contexts()
    name = connection.context or contexts.current
    if not name:
        raise NotFound("there is no current context: name one with --context")
    bare = replace(contexts.named(name), token="", tls_cert=None, tls_key=None)
    change_contexts(lambda latest: latest.with_context(bare, use=False))
    click.echo(f"Logged out of {bare.server} (context {name}).")
    return ExitCode.SUCCESS


async def who_am_i(caller: CallerSettings, screen: Screen) -> ExitCode:
    """Show who the caller is to the server."""
    identity = await _identity(caller.settings)
    server, context = caller.settings.server, caller.context.name if caller.context else ""
    if screen.for_people:
        screen.text(identity_text(identity, server, context))
    elif screen.format == "json":
        screen.document(identity_document(identity, server, context))
    else:
        screen.record(identity_document(identity, server, context))
    return ExitCode.SUCCESS


async def _identity(settings: ClientSettings) -> Identity:
    options = ClientOptions(credentials=ClientCredentials.of(settings))
    async with IdentityClient(settings.server, options) as client:
        return await client.who_am_i()


def _target(connection: ServerCalls) -> tuple[str, ClientSettings]:
    """The name of the context to store, and its settings, without a token."""
    if connection.context is not None:
        check_context_name(connection.context)
    contexts = read_contexts()
    flags = {name: value for name, value in connection.flags().items() if name != "token_file"}
    for_token = connection.token_file is not None
    if connection.server is None:
        known = contexts.chosen() if connection.context is None else contexts.named(connection.context)
        if known is not None:
            return known.name, _loaded(connection.config, {**_place(known, for_token=for_token), **flags})
    settings = load_client_settings(connection.config, ignored={"token", "token_file"}, **flags)
    name = connection.context or context_name_of(settings.server)
    known = contexts.by_name.get(name)
    if known is not None and known.server == settings.server:
        return name, _loaded(connection.config, {**_place(known, for_token=for_token), **flags})
    return name, settings


def _place(context: Context, *, for_token: bool) -> dict[str, Any]:
    """The settings of a context that a new login keeps; a token takes the place of a certificate."""
    replaced = {"token", "tls_cert", "tls_key"} if for_token else {"token"}
    return {name: value for name, value in context.settings().items() if name not in replaced}


def _loaded(config: Path | None, values: dict[str, Any]) -> ClientSettings:
    return load_client_settings(config, ignored=TARGET_SETTINGS, **values)


def _context(name: str, settings: ClientSettings) -> Context:
    values = {setting: getattr(settings, setting) for setting in CONTEXT_SETTINGS}
    return Context(name, **{**values, "token": settings.token.get_secret_value()})
