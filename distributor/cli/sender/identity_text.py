"""Formats who a caller is, for people and as JSON."""

from __future__ import annotations

import time
from typing import Any, Final

from distributor.cli.one_line import one_line
from distributor.cli.sender.json_text import json_line
from distributor.cli.sender.tables import span_text
from distributor.client.identity_client import Identity
from distributor.wire.documents import time_text

NO_AUTHENTICATION = "The server does not authenticate its callers: everyone may do everything."

_INSECURITIES: Final = {
    "plain_text": "Insecure: the server accepts plain text from other hosts.",
    "plain_http": "Insecure: the server sends its metrics to other hosts in plain text.",
}


def identity_text(identity: Identity, server: str, context: str) -> str:
    """Who the caller is and what it may do, and what is unsafe about the server; several lines."""
    insecure = [_INSECURITIES[name] for name in identity.insecure if name in _INSECURITIES]
    if not identity.known:
        return "\n".join([NO_AUTHENTICATION, *insecure, f"server: {_target(server, context)}"])
    grants = "everything" if identity.grants is None else ", ".join(map(json_line, identity.grants)) or "nothing"
    rows = {
        "caller": f"{identity.subject} ({identity.kind})",
        "on behalf of": identity.on_behalf_of,
        "roles": ", ".join(identity.roles) or "none",
        "grants": grants,
        "until": expiry_text(identity.expires_ms),
        "server": _target(server, context),
        "seen from": identity.address,
    }
    shown = {name: one_line(text) for name, text in rows.items() if text}
    width = max(map(len, shown))
    return "\n".join([*(f"{name:<{width}}  {text}" for name, text in shown.items()), *insecure])


def login_text(identity: Identity, server: str, context: str) -> str:
    """One line that says that a login has succeeded."""
    if not identity.known:
        return f"Context {context} is stored. {NO_AUTHENTICATION}"
    role = identity.roles[-1] if identity.roles else "no role"
    until = f", until {expiry_text(identity.expires_ms)}" if identity.expires_ms else ""
    return one_line(f"Logged in to {_target(server, context)} as {identity.subject} ({role}){until}")


def identity_document(identity: Identity, server: str, context: str) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "authenticated": identity.known,
        "kind": identity.kind,
        "subject": identity.subject,
        "onBehalfOf": identity.on_behalf_of or None,
        "roles": list(identity.roles),
        "grants": None if identity.grants is None else list(identity.grants),
        "expireTime": time_text(identity.expires_ms) if identity.expires_ms else None,
        "address": identity.address,
        "insecure": list(identity.insecure),
        "server": server,
        "context": context or None,
    }


def expiry_text(expires_ms: int) -> str:
    """When credentials expire, and how long that is from now by this machine's clock; empty if never."""
    if not expires_ms:
        return ""
    left_ms = expires_ms - round(time.time() * 1000)
    span = span_text(abs(left_ms) // 1000 * 1000) if abs(left_ms) >= 1_000 else "0 s"
    return f"{time_text(expires_ms)[:19]}Z ({'in ' + span if left_ms > 0 else 'expired ' + span + ' ago'})"


def _target(server: str, context: str) -> str:
    return f"{server} (context {context})" if context else server
