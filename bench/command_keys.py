"""The keys of one command in Valkey, and their memory."""

from __future__ import annotations

from bench.cluster import Cluster

KEYS_PER_SCAN = 1_000


async def command_keys(cluster: Cluster, command_id: str) -> dict[str, int]:
    """Return bytes by key, for all keys whose names contain the id. Scans all keys, so use it on a small Valkey.

    Excludes the command's entries in shared keys, such as indexes and the event stream.
    """
    names: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, found = await cluster.valkey.call("SCAN", cursor, "MATCH", f"*{command_id}*", "COUNT", KEYS_PER_SCAN)
        names += found
        if cursor == b"0":
            break
    # SCAN may return a key twice.
    sizes = {name: await cluster.valkey.call("MEMORY", "USAGE", name, "SAMPLES", 0) for name in sorted(set(names))}
    return {name.decode().replace(command_id, "<command_id>"): size for name, size in sizes.items()}
