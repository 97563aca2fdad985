"""Types of setting values and their limits."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from distributor.errors import ConfigurationError
from distributor.settings.store_address import StoreKind, store_address

MAX_SECONDS: Final = 30 * 86_400.0
MAX_PAYLOAD_BYTES: Final = 384 * 1_024
"""Twenty payloads of this size, with their envelopes, fit in one gRPC message."""

_VALKEY_SCHEMES: Final = ("valkey", "valkeys", "redis", "rediss", "unix")


class SettingsGroup(BaseSettings):
    """A frozen group of settings. The constructor reads no environment; `loading` does."""

    table: ClassVar[str]
    """Name of the table in the TOML file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def names(cls) -> list[str]:
        """The names of its settings: its own before those that it shares with other groups."""
        return sorted(cls.model_fields, key=lambda name: name not in cls.__annotations__)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the constructor's arguments, so that equal arguments give equal settings."""
        return (init_settings,)


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port" or "[ipv6]:port" into host and port. Raises ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be host:port with a port of 0 to 65535, such as 127.0.0.1:50051")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or address without a port, is a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable_address(listen: str) -> str:
    """Return the address at which this host reaches a server that listens at `listen`: loopback for all interfaces."""
    host, port = split_address(listen)
    return {"0.0.0.0": f"127.0.0.1:{port}", "::": f"[::1]:{port}"}.get(host, listen)


def _check_address(address: str) -> str:
    split_address(address)
    return address


def _check_servers(servers: str) -> str:
    for address in servers.split(","):
        split_address(address.strip())
    return servers


def _check_valkey_url(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    if "+" in parts.scheme:
        try:
            address = store_address(url)
        except ConfigurationError as error:
            raise ValueError(str(error).removeprefix("valkey_url ")) from None
        if address.kind is StoreKind.CLUSTER:
            raise ValueError("names a Valkey Cluster, which servers cannot use yet; use one Valkey, or Sentinels")
        return url
    if parts.scheme not in _VALKEY_SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in _VALKEY_SCHEMES)}")
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("must name a host, such as valkey://127.0.0.1:6379, or be unix:///path/to/socket")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("must have a port of 0 to 65535") from None
    return url


def _check_origin(origin: str) -> str:
    parts = urlsplit(origin)
    if origin != "*" and (parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"):
        raise ValueError("must be an origin such as https://ops.example.org, without a path, or *")
    return origin


def _split_list(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _split_pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError("must be name=value pairs separated by commas")
    labels: dict[str, str] = {}
    for name, _, text in pairs:
        if name.strip() in labels:
            raise ValueError("must have each name once")
        labels[name.strip()] = text.strip()
    return labels


Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Grace = Annotated[float, Field(ge=0, le=3_600.0, allow_inf_nan=False)]
PayloadBytes = Annotated[int, Field(ge=1_024, le=MAX_PAYLOAD_BYTES)]
Address = Annotated[str, AfterValidator(_check_address)]
OptionalAddress = Annotated[str, AfterValidator(lambda address: address and _check_address(address))]
Servers = Annotated[str, AfterValidator(_check_servers)]
"""Addresses of servers that share a Valkey, separated by commas."""
ValkeyUrl = Annotated[str, AfterValidator(_check_valkey_url)]
NameList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_list)]
PathList = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_list)]
OriginList = Annotated[
    tuple[Annotated[str, AfterValidator(_check_origin)], ...], NoDecode, BeforeValidator(_split_list)
]
Labels = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)]
CompressionMethod = Literal["gzip", "off"]
ThresholdBytes = Annotated[int, Field(ge=0, le=MAX_PAYLOAD_BYTES)]
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
