"""Every metric of a server moves when what it measures happens."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Final

from valkey.asyncio import Valkey

from distributor.app.server_process import serving
from distributor.observability.metrics import Metrics
from distributor.store import keys
from distributor.v1 import command_service_pb2 as pb
from tests.support.received_errors import error_of
from tests.support.running_server import RunningServer, queue_request, quick_settings, running_server
from tests.support.waiting import until

OF_THE_PROCESS: Final = ("process_", "python_", "distributor_build")
"""What the operating system counts, and what never changes."""


def values(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The samples of each family that is ours."""
    return {
        family.name: [(sample.labels | {"": sample.name}, sample.value) for sample in family.samples]
        for family in metrics.registry.collect()
        if not family.name.startswith(OF_THE_PROCESS)
    }


async def fail_a_store_call(server: RunningServer, valkey_url: str) -> None:
    """A key of another type: the function fails before it writes anything."""
    async with Valkey.from_url(valkey_url) as client:
        await client.set(keys.READY.format(agent_id="spoilt"), "text")
    assert (await error_of(server.commands.QueueCommand(queue_request("spoilt")))).reason == "STORE_ERROR"


async def fall_behind(valkey_url: str) -> None:
    """More events at once than a server reads between two samples."""
    async with Valkey.from_url(valkey_url) as client:
        pipeline = client.pipeline(transaction=False)
        for _ in range(5_000):
            pipeline.xadd(keys.EVENTS, {"origin": "another"})
        await pipeline.execute()


async def test_every_metric_moves(valkey_url: str) -> None:
    before = values(Metrics())
    async with running_server(valkey_url) as server, server.agent(capacity=1) as agent:
        await fail_a_store_call(server, valkey_url)
        first = await agent.next_assignment(await server.queue())
        await agent.start(first)
        await agent.finish(first)
        await server.result(first.command.command_id)
        assigned = await agent.next_assignment(await server.queue())
        await server.queue()
        watching = server.commands.WatchCommand(pb.WatchCommandRequest(command_id=assigned.command.command_id))
        await watching.read()
        metrics = server.process.metrics

        unmoved = set(before)

        def all_moved() -> bool:
            after = values(metrics)
            unmoved.difference_update([name for name in before if after[name] != before[name]])
            return not unmoved

        await fall_behind(valkey_url)
        await until(all_moved)
        assert unmoved == set()
        await until(lambda: metrics.registry.get_sample_value("distributor_events_lag_entries") == 0)
        failures = metrics.registry.get_sample_value("distributor_valkey_failures_total", {"function": "enqueue"})
        assert failures == 1
        watching.cancel()


async def test_an_embedded_valkey_and_its_allocator_are_described(tmp_path: Path) -> None:
    async with serving(quick_settings("", data_dir=tmp_path, drain_timeout=0.0)) as server:
        ((labels, value),) = values(server.metrics)["distributor_embedded_valkey"]
    assert value == 1
    assert labels["allocator"] == f"mimalloc-{metadata.version('cmeel-mimalloc')}"
    assert labels["version"]
