"""No scenario passes without an agent that does something."""

from __future__ import annotations

import asyncio

import grpc

from distributor.conformance.catalogue import SCENARIOS
from distributor.conformance.scenario import LAUNCH
from distributor.conformance.scenario_run import KitOptions, run_scenarios
from distributor.conformance.score import Verdict
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from tests.support.serving_agent import background
from tests.support.wire_agent import hello


async def stay_mute(port: int) -> None:
    """Send a valid Hello on one stream after another, and nothing else."""
    greeting = pb.ConnectRequest(hello=hello(types=["PING", "CONFORMANCE"], accepts_gzip=True))
    greeting.hello.orphan_after.FromSeconds(1)
    greeting.hello.halts.SetInParent()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        while True:
            call = AgentGatewayServiceStub(channel).Connect(wait_for_ready=True)
            try:
                await call.write(greeting)
                while await call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError:
                task = asyncio.current_task()
                if task and task.cancelling():
                    # gRPC may turn the cancellation of a call into its error.
                    return
                await asyncio.sleep(0.01)


async def test_an_agent_that_only_says_hello_passes_nothing(port: int) -> None:
    async with background(stay_mute(port)):
        options = KitOptions(port=port, patience=0.1)
        scored = await run_scenarios(SCENARIOS, options, lambda score: None)
    assert [score.scenario.name for score in scored if score.verdict is Verdict.PASSED] == []
    skipped = [score.scenario for score in scored if score.verdict is Verdict.SKIPPED]
    assert skipped == [one for one in SCENARIOS if one.needs == LAUNCH]
