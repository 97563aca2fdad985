"""The Valkey ACLs of servers and bridges: exactly the commands, keys and channels that they use.

`%R~*`: SORT with BY and GET, and SCAN, need permission to read every key. Writing is limited to our own names.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from distributor.store import keys
from distributor.store.durability import MARKER_CHANNEL

Program = Literal["server", "bridge"]

_BY_DRIVER: Final = ("CLIENT|SETINFO", "SELECT")
"""What the driver sends when it connects. AUTH and HELLO need no permission."""

_SERVER: Final = (
    "CONFIG|GET DEL EXISTS FCALL FCALL_RO FUNCTION|LIST FUNCTION|LOAD GET HDEL HGET HGETALL HINCRBY HLEN HMGET "
    "HSET INCR INFO LINDEX LLEN LRANGE LTRIM MGET MSET PEXPIRE PTTL PUBLISH RENAME RPUSH SADD SCAN SCARD SET "
    "SISMEMBER SMEMBERS SMISMEMBER SREM SSCAN STRLEN TIME TYPE UNLINK WAIT XADD XINFO|STREAM "
    "XRANGE XREAD XREVRANGE ZADD ZCARD ZMSCORE ZPOPMIN ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZREM "
    "ZREVRANGEBYSCORE ZSCAN ZSCORE"
).split()

_BRIDGE: Final = (
    "EXISTS FCALL_RO GET HGET HGETALL HMGET INFO LLEN LRANGE MGET SCARD SMEMBERS TIME XINFO|STREAM XRANGE "
    "XREAD XREVRANGE ZCARD ZRANGE ZREVRANGEBYSCORE"
).split()

_NAMES: Final = tuple(
    text
    for name, text in sorted(vars(keys).items())
    if name.isupper() and not name.startswith("_") and isinstance(text, str) and text
)
"""Every key name, with placeholders such as `{command_id}`."""

_ANY_TAG: Final = "{*}"
"""Matches the tag of any shard."""


def allowed_commands(program: Program) -> frozenset[str]:
    """The commands that a server or a bridge sends, or that its functions call, such as `XINFO|STREAM`."""
    return frozenset(_BY_DRIVER) | frozenset(_SERVER if program == "server" else _BRIDGE)


def access_rules(program: Program) -> list[str]:
    """The rules for the user of a server, which reads and writes, or of a bridge, which only reads."""
    commands = [f"+{name.lower()}" for name in sorted(allowed_commands(program))]
    if program == "bridge":
        return ["resetkeys", "resetchannels", "-@all", "%R~*", *commands]
    patterns = sorted({re.sub(r"{\w+}", "*", name) for name in _NAMES})
    written = [f"~{keys.in_shard(pattern, shard)}" for pattern in patterns for shard in (keys.ONLY_SHARD, _ANY_TAG)]
    return ["resetkeys", "resetchannels", "-@all", "%R~*", *written, f"&{MARKER_CHANNEL}", *commands]


def access_line(user: str, program: Program) -> str:
    """The line for an ACL file or `valkey.conf`, with PASSWORD where the password belongs.

    After `ACL SETUSER`, the words from the user's name on do the same.
    """
    return f"user {user} on >PASSWORD {' '.join(access_rules(program))}"
