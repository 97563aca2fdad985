"""What `valkey_url` names: one Valkey, the primaries of a Valkey Cluster, or what Sentinels watch.

    valkey://[user:password@]host:port[/database][?options]
    unix://[user:password@]path
    valkey+cluster://[user:password@]host:port,host:port,…[?options]
    valkey+sentinel://[user:password@]host:port,host:port,…/name[?options]

`valkeys` in place of `valkey` is the same over TLS. User and password are those of Valkeys and Sentinels alike.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from distributor.errors import ConfigurationError


class StoreKind(StrEnum):
    """How the Valkeys behind an address work together."""

    SINGLE = "single"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


DEFAULT_PORTS: Final = {StoreKind.SINGLE: 6379, StoreKind.CLUSTER: 6379, StoreKind.SENTINEL: 26_379}
_SCHEMES: Final = ("valkey", "valkeys", "redis", "rediss")


class Host(NamedTuple):
    """A host and a port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class StoreAddress(NamedTuple):
    """A parsed `valkey_url`. `url` is that of a single Valkey; of several, `hosts` are known ones to begin with.

    `service` is the name under which Sentinels know the primary.
    """

    kind: StoreKind
    url: str
    hosts: tuple[Host, ...] = ()
    service: str = ""

    def url_of(self, host: Host) -> str:
        """The URL of one Valkey of several."""
        return self.url.format(host=host)


def store_address(url: str) -> StoreAddress:
    """Parse `valkey_url`. Raises ConfigurationError that names what is wrong."""
    scheme, separator, rest = url.partition("://")
    scheme, _, kind = scheme.partition("+")
    if not kind:
        return StoreAddress(StoreKind.SINGLE, url)
    if not separator or scheme not in _SCHEMES or kind not in (StoreKind.CLUSTER, StoreKind.SENTINEL):
        raise _invalid(
            f"{scheme}+{kind}:// is not known; it begins with valkey://, valkeys://, valkey+cluster:// or "
            "valkey+sentinel://"
        )
    rest, _, query = rest.partition("?")
    rest, _, path = rest.partition("/")
    login, at, names = rest.rpartition("@")
    hosts = _hosts(names, DEFAULT_PORTS[StoreKind(kind)])
    if kind == StoreKind.CLUSTER and path not in ("", "0"):
        raise _invalid("a cluster has only database 0; remove what follows the last host")
    if kind == StoreKind.SENTINEL and not path:
        raise _invalid("the name of the primary is missing: valkey+sentinel://host:port,host:port/NAME")
    escaped = f"{login}{at}".replace("{", "{{").replace("}", "}}")
    options = f"?{query}".replace("{", "{{").replace("}", "}}") if query else ""
    return StoreAddress(
        StoreKind(kind), f"{scheme}://{escaped}{{host}}{options}", hosts, path if kind == StoreKind.SENTINEL else ""
    )


def _hosts(text: str, default_port: int) -> tuple[Host, ...]:
    if not text:
        raise _invalid("it names no host")
    return tuple(_host(part, default_port) for part in text.split(","))


def _host(text: str, default_port: int) -> Host:
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, port = text, str(default_port)
    if not name.strip("[]") or not port.isdigit() or not 0 < int(port) < 65_536:
        raise _invalid(f"'{text}' is not a host and a port, such as valkey-1:{default_port}")
    return Host(name.strip("[]"), int(port))


def _invalid(why: str) -> ConfigurationError:
    return ConfigurationError(f"valkey_url is no address: {why}", field="valkey_url")
