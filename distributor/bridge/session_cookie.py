"""The cookie that holds the token of the page's user. No script can read it, and no other site can make it count."""

from __future__ import annotations

import time
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response

from distributor.bridge.own_page import may_use_session, port_of
from distributor.errors import InvalidArgument
from distributor.identity.caller import Caller

NAME: Final = "distributor-session"
MAX_TOKEN_CHARACTERS: Final = 3_800
"""Browsers drop cookies over 4,096 bytes."""


def session_token(connection: HTTPConnection, listed_origins: tuple[str, ...]) -> str:
    """The token in the cookie of a request that may use it; empty otherwise."""
    if not may_use_session(connection, listed_origins):
        return ""
    found = (connection.cookies.get(name) for name in _names(connection))
    return next((token for token in found if token), "")


def set_session(response: Response, connection: HTTPConnection, token: str, caller: Caller) -> None:
    """Keep a token until it expires. Raises InvalidArgument for one that is too long for a cookie."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise InvalidArgument(
            f"the token has {len(token):,} characters; the page takes at most {MAX_TOKEN_CHARACTERS:,}",
            field="token",
            reason="TOKEN_TOO_LONG",
        )
    remaining = int(caller.expires - time.time()) if caller.expires is not None else None
    _set(response, connection, token, remaining)


def clear_session(response: Response, connection: HTTPConnection) -> None:
    """Remove the cookie."""
    _set(response, connection, "", 0)


def _set(response: Response, connection: HTTPConnection, token: str, max_age: int | None) -> None:
    secure = connection.headers.get("origin", "").startswith("https://") or connection.url.scheme == "https"
    host_only, plain = _names(connection)
    response.set_cookie(
        host_only if secure else plain, token, max_age, path="/", secure=secure, httponly=True, samesite="strict"
    )


def _names(connection: HTTPConnection) -> tuple[str, str]:
    """The names of the cookie over TLS, where the browser binds it to the host, and in plain text.

    Cookies do not differ by port: bridges on several ports of one host keep theirs apart by name.
    """
    port = port_of(connection.headers)
    name = f"{NAME}-{port}" if port else NAME
    return f"__Host-{name}", name
