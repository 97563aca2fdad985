"""Tells whether an address is one of this machine."""

from __future__ import annotations

import socket
from typing import Any

from distributor.settings import is_loopback, split_address


def is_on_this_machine(servers: str, listen: str) -> bool:
    """Whether all `servers`, "host:port" separated by commas, are this machine.

    They are if they name loopback, the host of `listen`, or a host all of whose addresses are this machine's.
    """
    own, _ = split_address(listen)
    hosts = [split_address(address.strip())[0] for address in servers.split(",")]
    return all(host == own or is_loopback(host) or _is_local(host) for host in hosts)


def _is_local(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return bool(found) and all(_is_local_address(family, address) for family, _, _, _, address in found)


def _is_local_address(family: socket.AddressFamily, address: tuple[Any, ...]) -> bool:
    """Whether this machine would call itself there: from the very address that it calls. Sends nothing."""
    if is_loopback(str(address[0])):
        return True
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return bool(probe.getsockname()[0] == address[0])
    except OSError:
        return False
