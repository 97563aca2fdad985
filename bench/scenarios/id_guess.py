"""Measures whether the time of an answer tells that a guessed id exists, though its caller may not see it."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from bench.cluster import Cluster
from bench.findings import BenchFailed, Finding
from bench.load import queue_request
from bench.scale import Scale
from bench.secured_cluster import SecuredCluster
from bench.separation import auc
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.credentials import Metadata

HIDDEN_AGENT, UNKNOWN_AGENT = "hidden-0", "hidden-1"
GRANTS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "by id": {"agents": ["mine-*"]},
    "by label": {"labels": ["team=mine"]},
}
IDS: Final = 20
"""Commands of each kind, guessed in turn."""
LARGE_BYTES: Final = 100_000
UNKNOWN_ID: Final = "0198c7f2-0000-7000-8000-{number:012x}"
CONTROL: Final = "unknown again"
"""Differs from what is unknown only by chance: the noise of the measurement."""

Calls = Mapping[str, tuple[Callable[..., Any], Sequence[Message]]]
"""By kind of id: the method, and requests to make in turn."""


async def id_guess(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Guess ids of hidden and of unknown commands and agents, interleaved at random, and compare the times."""
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        secured = await stack.enter_async_context(SecuredCluster(Path(folder)))
        await stack.enter_async_context(secured.agents("hidden", 1, 1))
        stub: Any = CommandServiceStub(await stack.enter_async_context(secured.channel()))
        small, large = [await _queue(stub, secured.authorization, text) for text in ("", _random_text())]
        unknown = [UNKNOWN_ID.format(number=number) for number in range(IDS)]
        for grant, narrowed in GRANTS.items():
            metadata = secured.authorization_of("guesser", **narrowed)
            for method, calls in _methods(stub, {"small": small, "large": large, "unknown": unknown}).items():
                times = await _times(calls, metadata, scale.id_guesses)
                findings += _findings(f"{method}, grants {grant}", times)
    return findings, {}


def _random_text() -> str:
    return random.randbytes(LARGE_BYTES // 2).hex()


async def _queue(stub: Any, metadata: Metadata, text: str) -> list[str]:
    """Queue commands with params of that size, and cancel them: they have a result, and stay as they are."""
    request = queue_request("hidden-away")
    request.command.params.update({"text": text})
    ids = [(await stub.QueueCommand(request, metadata=metadata)).command.command_id for _ in range(IDS)]
    for command_id in ids:
        await stub.CancelCommand(pb.CancelCommandRequest(command_id=command_id), metadata=metadata)
    return ids


def _methods(stub: Any, ids: Mapping[str, Sequence[str]]) -> dict[str, Calls]:
    kinds = {**ids, CONTROL: ids["unknown"]}
    agents = {"attached": HIDDEN_AGENT, "unknown": UNKNOWN_AGENT, CONTROL: UNKNOWN_AGENT}
    return {
        "GetCommand": {
            kind: (stub.GetCommand, [pb.GetCommandRequest(command_id=one) for one in some])
            for kind, some in kinds.items()
        },
        "GetResult": {
            kind: (stub.GetResult, [pb.GetResultRequest(command_id=one) for one in some])
            for kind, some in kinds.items()
        },
        "GetAgent": {kind: (stub.GetAgent, [pb.GetAgentRequest(agent_id=one)]) for kind, one in agents.items()},
    }


async def _times(calls: Calls, metadata: Metadata, samples: int) -> dict[str, list[float]]:
    """Microseconds of each call by kind, the kinds in a random order each time."""
    times: dict[str, list[float]] = {kind: [] for kind in calls}
    requests = {kind: cycle(some) for kind, (_, some) in calls.items()}
    kinds = list(calls)
    for _ in range(samples):
        random.shuffle(kinds)
        for kind in kinds:
            call, request = calls[kind][0], next(requests[kind])
            begun = time.perf_counter()
            try:
                await call(request, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                times[kind].append((time.perf_counter() - begun) * 1e6)
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
            else:
                raise BenchFailed(f"an id that is {kind} was found")
    return times


def _findings(what: str, times: Mapping[str, Sequence[float]]) -> list[Finding]:
    unknown = times["unknown"]
    found = [Finding(f"{what}: unknown", median(unknown), "µs")]
    for kind, some in times.items():
        if kind != "unknown":
            found += [
                Finding(f"{what}: {kind} − unknown", median(some) - median(unknown), "µs"),
                Finding(f"{what}: {kind}, AUC", auc(some, unknown), "(0.5 tells nothing)"),
            ]
    return found
