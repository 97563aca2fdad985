"""Reads the server's own metrics about its calls of store functions."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from bench.findings import BenchFailed
from distributor.settings import split_address

_ROUND_TRIPS = "distributor_valkey_round_trip_seconds_count"
_SECONDS = "distributor_valkey_round_trip_seconds_sum"
_ITEMS = "distributor_valkey_items_total"


@dataclass
class FunctionCalls:
    """Round trips of one store function, the items that shared them, and the time until they were answered."""

    round_trips: float = 0.0
    items: float = 0.0
    seconds: float = 0.0

    def since(self, earlier: FunctionCalls) -> FunctionCalls:
        """Return the difference."""
        return FunctionCalls(
            self.round_trips - earlier.round_trips, self.items - earlier.items, self.seconds - earlier.seconds
        )


async def function_calls(http_address: str) -> dict[str, FunctionCalls]:
    """Return the calls of each store function since the server started."""
    calls: defaultdict[str, FunctionCalls] = defaultdict(FunctionCalls)
    for family in text_string_to_metric_families(await _metrics(http_address)):
        for sample in family.samples:
            function = sample.labels.get("function", "")
            if sample.name == _ROUND_TRIPS:
                calls[function].round_trips = sample.value
            elif sample.name == _SECONDS:
                calls[function].seconds = sample.value
            elif sample.name == _ITEMS:
                calls[function].items = sample.value
    return dict(calls)


async def _metrics(http_address: str) -> str:
    host, port = split_address(http_address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if b" 200 " not in head.splitlines()[0]:
        raise BenchFailed(f"the server's metrics cannot be read: {head.splitlines()[0].decode()}")
    return body.decode()
