"""Rejects a Valkey that is unsuitable for storing commands, with cause and remedy in one sentence."""

from __future__ import annotations

import re
from typing import Final

from distributor.errors import ConfigurationError, DistributorError
from distributor.store.connections import Reads
from distributor.store.functions import Functions

MIN_VERSION: Final = (7, 0)
"""The first version with functions, by `redis_version`; Valkey itself began at 7.2."""

_CLOSED: Final = (
    "no Valkey answers there, or it wants TLS (valkeys://) or a client certificate (valkey_cert, valkey_key)"
)
_REMEDIES: Final = (
    ("WRONG_VERSION_NUMBER", "it does not speak TLS there: use valkey:// in valkey_url"),
    ("Hostname mismatch", "valkey_url must name a host that its certificate is for"),
    ("IP address mismatch", "valkey_url must name a host that its certificate is for"),
    ("certificate has expired", "renew its certificate, or correct the clock"),
    ("CERTIFICATE_VERIFY_FAILED", "set valkey_ca to the authority of its certificate"),
    ("CERTIFICATE_REQUIRED", "it requires a client certificate: set valkey_cert and valkey_key"),
    ("ALERT_UNKNOWN_CA", "it does not trust our client certificate: set valkey_cert and valkey_key of its authority"),
    ("Protocol error", "no Valkey answers there: check host and port"),
    ("Timeout", "no Valkey answers there, or TLS is on at one end only (valkeys://)"),
    ("Connection lost", _CLOSED),
    ("Connection closed by server", _CLOSED),
    ("reset by peer", _CLOSED),
    ("Error 111", "start it, or check host and port"),
    ("No such file", "start it, or check the path of its socket"),
    ("Authentication required", "put the password into valkey_url: valkey://:password@host:6379"),
    ("username-password", "check user and password in valkey_url"),
    ("o permissions", "distributor valkey-acl prints the permissions that its user needs"),
    ("read only replica", "name its primary in valkey_url"),
    ("used memory", "it is full: raise its maxmemory"),
    ("LOADING", "wait until it has loaded its data"),
)
"""Remedies by a part of the error text; the first match applies."""


async def check_server(connection: Reads) -> None:
    """Raise ConfigurationError unless this is a Valkey that can keep commands.

    Reachable, new enough for functions, no cluster, and never evicting.
    """
    try:
        info = _fields(await connection.call("INFO"))
    except DistributorError as error:
        raise _unusable(connection, error) from error
    shown = connection.shown_url
    version = info.get("valkey_version") or info.get("redis_version", "")
    if _numbers(info.get("redis_version", "")) < MIN_VERSION:
        raise _refused(f"the server at {shown} is version {version or 'unknown'}; Valkey 7.2 or newer is needed")
    if info.get("cluster_enabled") == "1":
        raise _refused(f"the Valkey at {shown} runs in cluster mode, which is not supported; use one that does not")
    policy = info.get("maxmemory_policy", "")
    if policy != "noeviction":
        raise _refused(
            f"the Valkey at {shown} evicts keys when it is full (maxmemory-policy is {policy}), which would lose "
            "commands; set maxmemory-policy to noeviction",
            reason="VALKEY_EVICTS",
        )


async def load_functions(connection: Reads, functions: Functions) -> None:
    """Load the store's functions if they are missing. Raises ConfigurationError."""
    try:
        await functions.load()
    except DistributorError as error:
        raise _unusable(connection, error) from error


def _unusable(connection: Reads, error: DistributorError) -> ConfigurationError:
    # Our own error mostly just says that Valkey is away.
    cause = " ".join(str(error.__cause__ or error).split())
    remedy = next((remedy for word, remedy in _REMEDIES if word in cause), "check valkey_url")
    return _refused(f"cannot use the Valkey at {connection.shown_url}: {cause.rstrip('.')}; {remedy}")


def _refused(message: str, reason: str = "VALKEY_UNUSABLE") -> ConfigurationError:
    return ConfigurationError(message, field="valkey_url", reason=reason)


def _fields(info: bytes) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
