"""Measures transport and Valkey alone: the lower bound for any server of this design."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import grpc

from bench.cluster import Cluster
from bench.echo import STREAM, UNARY
from bench.findings import percentile
from distributor.wire.transport import channel_options

PAYLOAD = bytes(200)
"""About the size of a small command."""

_LIBRARY = """#!lua name=bench
server.register_function('bench_set', function(keys, args) return server.call('SET', 'bench', args[1]) end)
"""


class Floor(NamedTuple):
    """Median round trips in milliseconds."""

    unary: float
    stream: float
    function: float

    @property
    def three_exchanges(self) -> float:
        """The sequential steps of one command, with an exchange with Valkey each for enqueue, claim and finish.

        The other steps: half of the call that queues it, as the response overlaps with the rest; a round trip on the
        agent's stream; one way on the watcher's stream.
        """
        return self._with_exchanges(3)

    @property
    def two_exchanges(self) -> float:
        """The same with enqueue and claim in one exchange."""
        return self._with_exchanges(2)

    def _with_exchanges(self, count: int) -> float:
        return self.unary / 2 + count * self.function + self.stream + self.stream / 2


async def measure_floor(cluster: Cluster, samples: int) -> Floor:
    """Measure an echo server in a separate process and the cluster's Valkey."""
    async with cluster.child("echo", "-m", "bench.echo") as process:
        address = await process.line()
        async with grpc.aio.insecure_channel(address, options=channel_options()) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY)
            unary = await _median_ms(lambda: call(PAYLOAD), samples)
            stream: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(STREAM)()

            async def there_and_back() -> None:
                await stream.write(PAYLOAD)
                await stream.read()

            streamed = await _median_ms(there_and_back, samples)
            await stream.done_writing()
            await stream.code()
    await cluster.valkey.call("FUNCTION", "LOAD", "REPLACE", _LIBRARY)
    function = await _median_ms(lambda: cluster.valkey.call("FCALL", "bench_set", 0, PAYLOAD), samples)
    return Floor(unary, streamed, function)


async def _median_ms(call: Callable[[], Awaitable[object]], samples: int) -> float:
    times = []
    for _ in range(samples):
        begun = time.perf_counter()
        await call()
        times.append((time.perf_counter() - begun) * 1000)
    return percentile(sorted(times), 50)
