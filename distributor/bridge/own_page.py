"""Tells requests of the bridge's own page from those of other sites, of programs, and of names rebound to this host."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from distributor.settings import is_loopback

DEV_HEADER: Final = "X-Distributor-Dev"
_OWN_SITE: Final = ("same-origin", "none")


def origin_permitted(headers: Headers, allowed: tuple[str, ...]) -> bool:
    """Permit requests without Origin (programs), from the bridge's own host, and from allowed origins."""
    origin = headers.get("origin")
    return origin is None or "*" in allowed or is_own_origin(headers, allowed)


def is_own_origin(headers: Headers, listed: tuple[str, ...]) -> bool:
    """Whether a request names its origin, and that is the bridge's own host or one listed by name."""
    origin = headers.get("origin")
    if origin is None or origin == "*":
        return False
    return origin in listed or _host_of(origin).netloc == headers.get("host", "").lower() != ""


def may_use_session(connection: HTTPConnection, listed: tuple[str, ...]) -> bool:
    """Whether a request may be authenticated by the cookie that a browser adds to it.

    A WebSocket and a change must name an origin of ours. A read that names none is of our page, or typed in.
    """
    headers = connection.headers
    if headers.get("sec-fetch-site", "none") not in _OWN_SITE and headers.get("origin") not in listed:
        return False
    if headers.get("origin") is None:
        return connection.scope["type"] == "http" and connection.scope["method"] in ("GET", "HEAD")
    return is_own_origin(headers, listed)


def is_from_this_machine(connection: HTTPConnection) -> bool:
    """Whether a request with DEV_HEADER is of this machine, and of no other site or rebound name.

    Other sites cannot set the header without CORS.
    """
    headers = connection.headers
    return (
        headers.get(DEV_HEADER) == "1"
        and headers.get("sec-fetch-site", "none") in _OWN_SITE
        and connection.client is not None
        and is_loopback(connection.client.host)
        and is_loopback(_host_of(f"//{headers.get('host', '')}").name)
    )


def port_of(headers: Headers) -> str:
    """The port in the address that the browser uses; empty for that of its scheme."""
    return _host_of(f"//{headers.get('host', '')}").port


class _Host(NamedTuple):
    """The host of a URL, with and without port, and the port; all empty if the URL is malformed."""

    netloc: str = ""
    name: str = ""
    port: str = ""


def _host_of(url: str) -> _Host:
    try:
        parts = urlsplit(url)
        return _Host(parts.netloc.lower(), parts.hostname or "", str(parts.port or ""))
    except ValueError:
        return _Host()
