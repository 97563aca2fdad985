"""An agent built from settings, on a real server: its own policy and the signatures that it requires."""

from __future__ import annotations

from pathlib import Path

from distributor.agent import CommandContext
from distributor.cli.command_agent import build_agent
from distributor.identity.signatures import new_signing_key
from distributor.settings import AgentSettings
from distributor.v1 import command_pb2
from tests.support.running_server import RunningServer, running_server
from tests.support.serving_agent import background
from tests.support.signed_commands import written_key
from tests.support.waiting import until

POLICY = """\
[types.WORK]
schema = { required = ["path"] }

[types.ELSEWHERE]
agents = ["db-*"]
"""


async def end_of(server: RunningServer, command_type: str, **params: str) -> str:
    """The reason of a command's end."""
    command_id = await server.queue(command_type=command_type, params=params)
    state = await server.until_state(command_id, lambda state: state.status > command_pb2.COMMAND_STATUS_ASSIGNED)
    return state.reason.code


async def test_an_agent_checks_commands_as_its_settings_say(valkey_url: str, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    _, public = written_key(new_signing_key(), tmp_path)
    async with running_server(valkey_url) as server:
        agent = build_agent(
            AgentSettings(
                server=server.address,
                agent_id="agent123",
                policy_file=tmp_path / "policy.toml",
                trusted_signers=(str(public),),
                require_signature=("SIGNED*",),
            )
        )

        async def work(command: CommandContext) -> None:
            """Complete at once."""

        for command_type in ("WORK", "ELSEWHERE", "SIGNED_WORK"):
            agent.add_handler(command_type, work)
        async with background(agent.serve()):
            await until(lambda: server.process.has_agent("agent123"))
            assert await end_of(server, "WORK", path="/x") == ""
            assert await end_of(server, "WORK") == "params_not_valid"
            assert await end_of(server, "ELSEWHERE") == "agent_not_permitted"
            assert await end_of(server, "SIGNED_WORK") == "signature_missing"
            assert await end_of(server, "PING") == ""
