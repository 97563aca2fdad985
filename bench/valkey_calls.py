"""Counts Valkey's commands and their CPU time, with INFO commandstats."""

from __future__ import annotations

from typing import NamedTuple

from bench.cluster import Cluster

FUNCTION_CALL = "fcall"
NOT_INSIDE_FUNCTIONS = ("fcall", "fcall_ro", "xread", "info", "config", "ping", "hello", "auth", "client")
"""Commands that the server and the benchmark send; all others run inside functions."""


class ValkeyCalls(NamedTuple):
    """Calls of one command and the microseconds spent in them. A function's time includes its commands."""

    calls: int
    microseconds: int


async def reset_valkey_calls(cluster: Cluster) -> None:
    """Start counting."""
    await cluster.valkey.call("CONFIG", "RESETSTAT")


async def valkey_calls(cluster: Cluster) -> dict[str, ValkeyCalls]:
    """Return the calls since the reset by command, such as `fcall` or `config|resetstat`."""
    stats = await cluster.valkey_info("commandstats")
    return {name.removeprefix("cmdstat_"): calls_of(text) for name, text in stats.items()}


def inside_functions(calls: dict[str, ValkeyCalls]) -> int:
    """Return the microseconds of all commands that functions ran."""
    return sum(call.microseconds for name, call in calls.items() if name.split("|")[0] not in NOT_INSIDE_FUNCTIONS)


def calls_of(text: str) -> ValkeyCalls:
    """Return the calls in a value of INFO commandstats."""
    fields = dict(field.split("=") for field in text.strip().split(","))
    return ValkeyCalls(int(fields["calls"]), int(fields["usec"]))
