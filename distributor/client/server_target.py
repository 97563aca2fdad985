"""The gRPC target for one server, or for several that share a Valkey."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from typing import Final

from distributor.errors import Unavailable

_SCHEMES: Final = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}


async def server_target(servers: str) -> str:
    """The target for `servers`, "host:port" or several of them separated by commas.

    gRPC uses one connection, to any server of a list that can be reached, and goes to another when it ends. Several
    are given in random order, so that callers spread over them, and by the addresses that their names have now. Raises
    Unavailable if none of the names can be resolved.
    """
    addresses = [part.strip() for part in servers.split(",") if part.strip()]
    if len(addresses) == 1:
        return addresses[0]
    random.shuffle(addresses)
    resolved = await asyncio.gather(*map(_resolved, addresses))
    for family, scheme in _SCHEMES.items():
        found = [text for each in resolved for kind, text in each if kind == family]
        if found:
            return f"{scheme}:{','.join(dict.fromkeys(found))}"
    raise Unavailable(f"none of the servers {servers} has an address")


async def _resolved(address: str) -> Sequence[tuple[int, str]]:
    """The family and text of each address that a name has; none if it cannot be resolved."""
    host, _, port = address.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [(family, _text(family, str(name[0]), int(name[1]))) for family, _, _, _, name in found]


def _text(family: int, host: str, port: int) -> str:
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
