"""Fetches a JSON Web Key Set by URL, in bounded time whatever its host sends."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from distributor.errors import Unavailable
from distributor.identity.jwks import MAX_JWKS_BYTES, keys_of
from distributor.identity.token_keys import TokenKey
from distributor.settings import is_loopback

FETCH_TIMEOUT_SECONDS: Final = 5.0
"""To connect, and for the next bytes."""
FETCH_SECONDS: Final = 10.0
"""For all of it, after which the connection is cut: a host may send a byte at a time."""


def fetched_keys(url: str, seconds: float = FETCH_SECONDS) -> tuple[TokenKey, ...]:
    """Fetch a key set. Blocks for `seconds` at most, beside the look-up of its host's name. Raises Unavailable."""
    fetch = _Fetch()
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects(), _Https(fetch), _Http(fetch)]
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers={"Accept": "application/jwk-set+json, application/json"})
    try:
        with (
            fetch.cut_after(seconds),
            urllib.request.build_opener(*handlers).open(request, timeout=FETCH_TIMEOUT_SECONDS) as response,
        ):
            document = _body(response, time.monotonic() + seconds)
            if fetch.is_cut:
                # Headers that were cut off read as complete.
                raise TimeoutError
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = "it was not sent in time" if fetch.is_cut else getattr(error, "reason", error)
        raise Unavailable(f"the key set of jwks_url cannot be read: {why}") from error
    return keys_of(document)


class _Fetch:
    """The connections of a fetch, and the time at which they are cut."""

    def __init__(self) -> None:
        self._connections: list[http.client.HTTPConnection] = []
        self.is_cut = False

    def connection(self, kind: Callable[..., http.client.HTTPConnection]) -> Callable[..., Any]:
        """Wrap the class of a connection to note those that are made."""

        def made(*arguments: Any, **named: Any) -> http.client.HTTPConnection:
            made = kind(*arguments, **named)
            self._connections.append(made)
            return made

        return made

    @contextlib.contextmanager
    def cut_after(self, seconds: float) -> Iterator[None]:
        """Cut the connections if the block lasts longer. What reads from them then sees their end."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self.is_cut = True
        for connection in self._connections:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, fetch: _Fetch) -> None:
        super().__init__()
        self._fetch = fetch

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._fetch.connection(http.client.HTTPConnection), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, fetch: _Fetch) -> None:
        super().__init__()
        self._fetch = fetch

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._fetch.connection(http.client.HTTPSConnection), req)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to plain http, or to a host inside."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _body(response: Any, deadline: float) -> bytes:
    """At most MAX_JWKS_BYTES and one more. Raises TimeoutError if it trickles in."""
    body = bytearray()
    while len(body) <= MAX_JWKS_BYTES and (piece := response.read1(MAX_JWKS_BYTES + 1 - len(body))):
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError("it was not sent in time")
    return bytes(body)
