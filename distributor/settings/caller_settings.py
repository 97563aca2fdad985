"""Finds the server to call and the credentials for it: from flags, environment, settings file, or a context.

    --context NAME        flags > that context > default; environment and settings file do not count for the target
    a server is named     flags > environment > settings file > default; no context counts
    else                  flags > environment > settings file > current context > default

A context's credentials are for its own server: they never go to one that something else names. The target is the
server, its TLS and the caller's certificate or token; other settings have nothing to do with contexts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from distributor.settings.client import ClientSettings
from distributor.settings.contexts import CONTEXT_SETTINGS, Context, read_contexts
from distributor.settings.loading import load_client_settings

TARGET_SETTINGS: Final = frozenset(CONTEXT_SETTINGS) | {"token_file"}
IDENTITY_SETTINGS: Final = frozenset({"tls_cert", "tls_key", "token", "token_file"})
"""A caller has one identity, so if any of these is set elsewhere, all of the context's are left out."""


class CallerSettings(NamedTuple):
    """Settings of a caller, and the context that they are from, if one was used."""

    settings: ClientSettings
    context: Context | None = None

    @property
    def identified(self) -> bool:
        """Whether the caller has a token or a certificate."""
        settings = self.settings
        return bool(settings.token.get_secret_value() or settings.token_file or settings.tls_cert)


def load_caller_settings(config: Path | None = None, context: str | None = None, **flags: Any) -> CallerSettings:
    """Load a caller's settings. `context` is that of the flag --context; flags of None are not given.

    Raises ConfigurationError, and NotFound if there is no such context.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if context is not None:
        chosen = read_contexts().named(context)
        return CallerSettings(_with(chosen, config, given, given, ignored=TARGET_SETTINGS), chosen)
    settings = load_client_settings(config, **given)
    known = {name: getattr(settings, name) for name in settings.model_fields_set}
    if "server" in known:
        return CallerSettings(settings)
    current = read_contexts().chosen()
    if current is None:
        return CallerSettings(settings)
    return CallerSettings(_with(current, config, known, given), current)


def _with(
    context: Context,
    config: Path | None,
    known: Mapping[str, Any],
    flags: Mapping[str, Any],
    ignored: frozenset[str] = frozenset(),
) -> ClientSettings:
    own = context.settings()
    if IDENTITY_SETTINGS & known.keys():
        own = {name: value for name, value in own.items() if name not in IDENTITY_SETTINGS}
    own = {name: value for name, value in own.items() if name not in known}
    origins = {name: f"{name} of the context {context.name}" for name in own}
    return load_client_settings(config, origins, ignored=ignored, **{**own, **flags})
