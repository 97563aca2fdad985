"""Hands the caller from the interceptor that authenticates a call to the servicer that serves it, and no further."""

from __future__ import annotations

from contextvars import ContextVar
from functools import lru_cache
from urllib.parse import unquote

from distributor.identity.caller import ANYONE, Caller

_caller: ContextVar[Caller] = ContextVar("caller", default=ANYONE)


def current_caller() -> Caller:
    """Return the caller of the present call. Servicers pass it to the use cases as an argument."""
    return _caller.get()


def set_current_caller(caller: Caller) -> None:
    """Set the caller of the present call. gRPC runs each call in a task, and so in a context, of its own."""
    _caller.set(caller)


@lru_cache(maxsize=4_096)
def host_of(peer: str) -> str:
    """Return the address without port of a peer as gRPC names it, such as `ipv4:127.0.0.1:5000`."""
    scheme, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if scheme in ("ipv4", "ipv6") else scheme
