"""Authenticates callers and checks what they may call, before anything of a request is parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from distributor.identity.caller import Caller
from distributor.identity.permissions import RPCS, Need, check_permitted
from distributor.rpc.current_caller import host_of, set_current_caller
from distributor.rpc.interceptors.wrapping import Context
from distributor.rpc.malformed import tolerant

AuthContext: TypeAlias = Callable[[], Mapping[str, Iterable[bytes]]]
"""Returns what the transport knows of a peer; for TLS with client certificates, `x509_pem_cert`."""
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


class Authenticator(Protocol):
    """Tells who calls."""

    async def caller(self, metadata: Metadata, transport: AuthContext, address: str) -> Caller | None:
        """Return who calls, by a certificate that the transport has verified or a token in the metadata.

        None without credentials. Raises Unauthenticated for credentials that do not count.
        """


class Unparsed:
    """A request whose caller is not known yet."""

    __slots__ = ("data", "parse")

    def __init__(self, data: bytes, parse: Callable[[bytes], Any]) -> None:
        self.data = data
        self.parse = parse


class Door:
    """Admits the calls of one method."""

    def __init__(self, authenticator: Authenticator, method: str, need: Need) -> None:
        self._authenticator = authenticator
        self._name = method.rpartition("/")[2]
        self._need = need

    async def admit(self, request: Any, context: Context) -> Any:
        """Return the parsed request. Raises Unauthenticated or PermissionDenied."""
        if self._need is not Need.NOTHING:
            metadata = context.invocation_metadata() or ()
            caller = await self._authenticator.caller(metadata, context.auth_context, host_of(context.peer()))
            if caller is not None:
                # Before the check, so that a refusal is recorded with its caller.
                set_current_caller(caller)
            check_permitted(caller, self._need, self._name)
        return request.parse(request.data) if isinstance(request, Unparsed) else request


class Doors:
    """Makes the door of each method. Methods that the permission table does not name are not served."""

    def __init__(self, authenticator: Authenticator, needs: Mapping[str, Need] = RPCS) -> None:
        self._authenticator = authenticator
        self._needs = needs

    def door(self, method: str) -> Door:
        """Return the door of a method. Raises LookupError if the permission table has no line for it."""
        need = self._needs.get(method)
        if need is None:
            raise LookupError(f"{method} has no line in the permission table (identity/permissions.py)")
        return Door(self._authenticator, method, need)


def later(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Wrap `deserialize` to parse only what a door has admitted."""
    parse = tolerant(deserialize)
    return lambda data: Unparsed(data, parse)
