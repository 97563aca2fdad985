"""Addresses of callers: their forms, and that of a user, which a service that calls on the user's behalf forwards."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

CLIENT_ADDRESS: Final = "distributor-client-address"
"""Metadata with the IP address from which the user reached the service. Only with `distributor-on-behalf-of`."""
_MAX_CHARACTERS: Final = 45
"""Of an IPv6 address that ends in an IPv4 address."""
_NETWORK_BITS: Final = 64
"""Of an IPv6 address, those that its network decides; a host may choose the others."""


def ip_address_text(text: str) -> str:
    """Return an IP address in its canonical form; empty if `text` is none.

    An IPv4 address mapped to IPv6 becomes IPv4. An address with a zone, as fe80::1%eth0, is refused.
    """
    if len(text) > _MAX_CHARACTERS or "%" in text:
        return ""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def network_of(source: str) -> str:
    """Return what one host cannot choose of its address, to count by it; other texts as they are."""
    try:
        address = ip_address(source)
    except ValueError:
        return source
    if not isinstance(address, IPv6Address):
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> _NETWORK_BITS:x}/{_NETWORK_BITS}"
