"""Shows contexts, never with their tokens. Names and times of tokens are unverified claims."""

from __future__ import annotations

from typing import Any

from distributor.cli.exit_codes import ExitCode
from distributor.cli.one_line import one_line
from distributor.cli.sender.columns import format_table
from distributor.cli.sender.identity_text import expiry_text
from distributor.cli.sender.screen import Screen
from distributor.errors import NotFound
from distributor.identity.unverified_claims import unverified_claims
from distributor.settings.contexts import Context, Contexts, read_contexts
from distributor.wire.documents import time_text


def show_contexts(output: str) -> ExitCode:
    """Show all contexts. Raises ConfigurationError."""
    screen, contexts = Screen(output), read_contexts()
    every = [contexts.by_name[name] for name in sorted(contexts.by_name)]
    documents = [context_document(contexts, one) for one in every]
    if screen.format == "json":
        screen.document(documents)
    elif not screen.for_people:
        for document in documents:
            screen.record(document)
    elif every:
        screen.text(_table(contexts, every))
    else:
        screen.message("there are no contexts; make one with command-sender login")
    return ExitCode.SUCCESS


def show_context(name: str | None, output: str) -> ExitCode:
    """Show a context, or the current one. Raises NotFound and ConfigurationError."""
    screen, contexts = Screen(output), read_contexts()
    context = contexts.chosen() if name is None else contexts.named(name)
    if context is None:
        raise NotFound("there is no current context: name one, or use command-sender login")
    if screen.format == "json":
        screen.document(context_document(contexts, context))
    elif screen.for_people:
        screen.text(_text(contexts, context))
    else:
        screen.record(context_document(contexts, context))
    return ExitCode.SUCCESS


def context_document(contexts: Contexts, context: Context) -> dict[str, Any]:
    """A context as JSON, without its token."""
    expires_ms = _expires_ms(context)
    return {
        "name": context.name,
        "current": context.name == contexts.current,
        "server": context.server,
        "tls": context.tls,
        "tlsCa": _path(context.tls_ca),
        "tlsCert": _path(context.tls_cert),
        "tlsKey": _path(context.tls_key),
        "insecure": context.insecure,
        "credentials": _kind(context),
        "subject": _subject(context) or None,
        "expireTime": time_text(expires_ms) if expires_ms else None,
    }


def _table(contexts: Contexts, every: list[Context]) -> str:
    return format_table(
        {
            "": ["*" if one.name == contexts.current else "" for one in every],
            "name": [one.name for one in every],
            "server": [one_line(one.server) for one in every],
            "as": [one_line(_subject(one) or _kind(one)) for one in every],
            "until": [expiry_text(_expires_ms(one)) for one in every],
        }
    )


def _text(contexts: Contexts, context: Context) -> str:
    rows = {
        "name": context.name + (" (current)" if context.name == contexts.current else ""),
        "server": context.server,
        "tls": "yes" if context.tls else "",
        "tls ca": _path(context.tls_ca),
        "tls cert": _path(context.tls_cert),
        "tls key": _path(context.tls_key),
        "insecure": "yes" if context.insecure else "",
        "credentials": _kind(context),
        "as": _subject(context),
        "until": expiry_text(_expires_ms(context)),
    }
    return "\n".join(f"{name:<11}  {one_line(text)}" for name, text in rows.items() if text)


def _kind(context: Context) -> str:
    if context.token:
        return "token"
    return "certificate" if context.tls_cert else "none"


def _subject(context: Context) -> str:
    claims = unverified_claims(context.token)
    return claims.subject if claims else ""


def _expires_ms(context: Context) -> int:
    claims = unverified_claims(context.token)
    return round(claims.expires * 1000) if claims and claims.expires is not None else 0


def _path(path: object) -> str | None:
    return str(path) if path else None
