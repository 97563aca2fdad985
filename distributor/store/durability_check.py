"""Chooses how to prove durability on a given Valkey, and refuses one whose settings do not permit it."""

from __future__ import annotations

from typing import Final, NamedTuple

from distributor.errors import ConfigurationError, DistributorError
from distributor.observability.logging import get_logger
from distributor.store.connections import StoreConnections
from distributor.store.durability import (
    MARKER_CHANNEL,
    SYNCED_SETTINGS,
    Durability,
    Replicated,
    SyncedByUs,
    SyncedByValkey,
    SyncedUnseen,
    WrittenFirst,
    info_fields,
)
from distributor.store.embedded import EmbeddedValkey

logger = get_logger()

SETTINGS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "aof-load-truncated")
"""The settings of Valkey on which durability depends."""


class WantedDurability(NamedTuple):
    """What an acknowledged change must survive."""

    name: str
    """`process`, `disk` or `replicated`, as in the setting `durability`."""
    replicas: int = 1
    """How many replicas must have a change, if `replicated`."""


async def durability_of(
    connections: StoreConnections, wanted: WantedDurability, embedded: EmbeddedValkey | None
) -> Durability:
    """Return the proof that a change needs before it is acknowledged.

    `embedded` is the Valkey behind `connections` if it is embedded. Raises ConfigurationError, which names the setting
    to change, if this Valkey cannot give the durability. Logs a warning for each setting that weakens it, and for
    settings that cannot be read.
    """
    if embedded is not None:
        return SyncedByUs(connections.functions, embedded.cadence.sync) if wanted.name == "disk" else Durability()
    found = await _settings(connections)
    _check_loading(found)
    if wanted.name == "disk":
        return _synced(connections, found)
    local = _written(connections, found, wanted)
    if wanted.name == "process":
        return local
    await _check_replicas(connections, wanted.replicas)
    await _check_marker(connections)
    return Replicated(
        connections.functions,
        connections.replicas,
        wanted.replicas,
        local if isinstance(local, WrittenFirst) else None,
    )


async def _settings(connections: StoreConnections) -> dict[str, str]:
    """Read the settings. Logs a warning if Valkey does not permit it."""
    found = {}
    try:
        reply = await connections.reads.call("CONFIG", "GET", *SETTINGS)
        found = {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}
    except DistributorError as error:
        logger.warning(
            "cannot check the settings of Valkey on which durability depends",
            error=str(error),
            unchecked=", ".join(SETTINGS[1:]),
        )
    if "appendonly" not in found:
        info = info_fields(await connections.reads.call("INFO", "persistence"))
        found["appendonly"] = "yes" if info.get(b"aof_enabled") == b"1" else "no"
    return found


def _check_loading(found: dict[str, str]) -> None:
    if found.get("aof-load-truncated") == "no":
        _warn("aof-load-truncated", "no", "after a power failure it may not start until its file is repaired", "yes")


def _synced(connections: StoreConnections, found: dict[str, str]) -> Durability:
    for name, value in SYNCED_SETTINGS.items():
        needed = value.decode()
        if found.get(name.decode(), needed) != needed:
            raise _unsuitable(connections, f"{name.decode()} is {found[name.decode()]}", "disk", f"set it to {needed}")
    if "appendfsync" in found:
        return SyncedByValkey(connections.functions)
    logger.warning("with durability disk, appendfsync of Valkey must be always, which could not be checked")
    return SyncedUnseen(connections.functions)


def _written(connections: StoreConnections, found: dict[str, str], wanted: WantedDurability) -> Durability:
    """Return the proof that killing Valkey loses nothing."""
    if found["appendonly"] == "no":
        if wanted.name == "replicated":
            raise _unsuitable(connections, "appendonly is no", wanted.name, "set it to yes")
        _warn("appendonly", "no", "when it ends, it loses commands", "yes")
        return Durability()
    match found.get("appendfsync", "everysec"):
        case "always":
            return WrittenFirst(connections.functions, may_postpone=False)
        case "no":
            logger.info("the operating system decides what a power failure loses: appendfsync of Valkey is no")
            return WrittenFirst(connections.functions, may_postpone=False)
    if found.get("no-appendfsync-on-rewrite") == "yes":
        _warn("no-appendfsync-on-rewrite", "yes", "a power failure during a rewrite loses all since its begin", "no")
    return WrittenFirst(connections.functions)


async def _check_replicas(connections: StoreConnections, needed: int) -> None:
    info = info_fields(await connections.reads.call("INFO", "replication"))
    online = sum(
        1
        for name, value in info.items()
        if name.startswith(b"slave") and name[5:].isdigit() and b"state=online" in value
    )
    if online < needed:
        raise _unsuitable(
            connections,
            f"{online} replicas are connected, and replicas_acked is {needed}",
            "replicated",
            "start replicas (replicaof), or lower replicas_acked",
        )


async def _check_marker(connections: StoreConnections) -> None:
    """Check that the access control list (ACL) permits the message that replicas acknowledge."""
    (reply,) = await connections.replicas.exchange([("PUBLISH", MARKER_CHANNEL, "")])
    if isinstance(reply, DistributorError):
        raise _unsuitable(
            connections,
            f"its ACL must permit PUBLISH to the channel {MARKER_CHANNEL}: {reply}",
            "replicated",
            f"give the user +publish and &{MARKER_CHANNEL} (ACL SETUSER)",
        )


def _warn(setting: str, value: str, effect: str, better: str) -> None:
    logger.warning("a setting of Valkey weakens durability", setting=f"{setting} {value}", effect=effect, better=better)


def _unsuitable(connections: StoreConnections, problem: str, wanted: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"the Valkey at {connections.functions.shown_url} cannot give durability {wanted}: {problem}; {remedy}, or "
        "choose another durability",
        field="durability",
        reason="VALKEY_NOT_DURABLE",
    )
