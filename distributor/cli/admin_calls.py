"""Calls of an administrator, with the credentials given or with a token minted on the server's own machine."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from distributor.cli.login_hint import login_hint
from distributor.cli.own_machine import is_on_this_machine
from distributor.cli.shared_options import remembered_caller_options
from distributor.cli.token import TokenRequest, token_for
from distributor.client import ClientCredentials, ClientOptions
from distributor.errors import DistributorError
from distributor.identity.roles import Role
from distributor.model.retry_policy import RetryPolicy
from distributor.settings import load_client_settings, load_server_settings, reachable_address
from distributor.settings.caller_settings import CallerSettings, load_caller_settings

LOCAL_LIFETIME: Final = "5m"
STARTING: Final = RetryPolicy(attempts=12, first_ms=200, max_ms=1_000)
"""For a server on this machine, which may have been started just before: about five seconds."""


class AdminClient(Protocol):
    """A client of a service for administrators."""

    async def __aenter__(self) -> Self:
        """Open it."""

    async def __aexit__(self, *error: Any) -> None:
        """Close it."""


Client = TypeVar("Client", bound=AdminClient)


class _LocalServer(NamedTuple):
    listen: str
    token: str

    @property
    def address(self) -> str:
        """Where this machine reaches it."""
        return reachable_address(self.listen)


@asynccontextmanager
async def admin_client(
    make: Callable[[str, ClientOptions], Client], config: Path | None, server: str | None
) -> AsyncIterator[Client]:
    """Open a client of the server that the options of the running command, settings or a context name.

    If the settings of a server with a `token_key` can be read here, its key comes before the current context: without
    a token or certificate, a token of five minutes is minted for the user `local:<user>`, and the server is called at
    its `listen` if nothing else names one. That token never leaves this machine. Otherwise server and credentials are
    found as those of `command-sender`: see `settings.caller_settings`. Raises ConfigurationError, NotFound, and what
    calls raise; Unauthenticated says how to log in.
    """
    given = remembered_caller_options()
    context = given.pop("context", None)
    local = _local_server(config) if context is None else None
    if local is not None:
        settings = load_client_settings(config, server=server, **given)
        if "server" not in settings.model_fields_set:
            settings = settings.model_copy(update={"server": local.address})
        caller = CallerSettings(settings)
    else:
        caller = load_caller_settings(config, context, server=server, **given)
    credentials, note = ClientCredentials.of(caller.settings), ""
    if local is not None and not caller.identified:
        if is_on_this_machine(caller.settings.server, local.listen):
            credentials = replace(credentials, token=local.token)
        else:
            note = f"tokens signed with this machine's key are not sent to {caller.settings.server}, another machine"
    options = ClientOptions(credentials=credentials)
    if local is not None and is_on_this_machine(caller.settings.server, local.listen):
        options = replace(options, calls=STARTING)
    with login_hint(caller, note):
        async with make(caller.settings.server, options) as client:
            yield client


def _local_server(config: Path | None) -> _LocalServer | None:
    """The server on this machine, with a token signed with its key; None if there is no key that can be read."""
    try:
        settings = load_server_settings(config)
        if not (settings.token_key_file or settings.token_key.get_secret_value()):
            return None
        wanted = TokenRequest(f"local:{getpass.getuser()}", LOCAL_LIFETIME, roles=(Role.ADMIN,))
        return _LocalServer(settings.listen, token_for(settings, wanted))
    except (DistributorError, OSError):
        return None
