from __future__ import annotations

import importlib.util
from pathlib import Path

from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import serving

EXAMPLE = Path(__file__).parents[3] / "examples" / "greeting_agent.py"


async def test_the_example_does_what_it_says(gateway: ScriptedGateway) -> None:
    spec = importlib.util.spec_from_file_location("greeting_agent", EXAMPLE)
    assert spec
    assert spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.agent.server = gateway.address

    async with serving(example.agent, gateway) as served:
        session = served.session
        await session.command(assignment("a", "GREET", name="Ada"), assignment("b", "GREET"))
        greeted, refused = await session.result("a"), await session.result("b")
        assert greeted.data.struct_value["greeting"] == "Hello Ada!"
        assert session.output("a").decode() == "thinking of something nice to say to Ada…\n"
        assert (refused.status, refused.reason.code) == (command_pb2.COMMAND_STATUS_FAILED, "invalid_params")
