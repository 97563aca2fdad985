"""Detects the proxy that gRPC takes from the environment, which applies to loopback connections as well."""

from __future__ import annotations

import ipaddress
import os
from typing import Final
from urllib.parse import urlsplit

_VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS: Final = ("no_grpc_proxy", "no_proxy")


def is_loopback_target(target: str) -> bool:
    """Return whether a gRPC target is a loopback address, in any notation, or a list of such."""
    for scheme in ("dns:///", "ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    return all(_is_loopback(address) for address in target.split(","))


def _is_loopback(target: str) -> bool:
    host = target.rpartition(":")[0] or target
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def proxy_note(target: str) -> str:
    """Return a note for errors that names the proxy for connections to `target`; "" if there is none."""
    if is_loopback_target(target) or target.startswith("unix:"):
        return ""
    environment = os.environ  # noqa: TID251  # gRPC reads these; we only report them
    host = target.removeprefix("dns:///").rpartition(":")[0]
    exceptions = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    if any(one and host.endswith(one) for one in (entry.strip() for entry in exceptions.split(","))):
        return ""
    name = next((name for name in _VARIABLES if environment.get(name)), "")
    if not name:
        return ""
    proxy = urlsplit(environment[name])
    # Without user and password.
    address = proxy.netloc.rpartition("@")[2] or environment[name]
    return f" (through the proxy {address} set in {name}; set no_proxy={host} to bypass it)"
