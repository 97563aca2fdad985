"""The address of a user, which a service that calls on the user's behalf forwards."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

CLIENT_ADDRESS: Final = "distributor-client-address"
"""Metadata with the IP address from which the user reached the service. Only with `distributor-on-behalf-of`."""
_MAX_CHARACTERS: Final = 45
"""Of an IPv6 address that ends in an IPv4 address."""


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
