"""A real agent that requires signatures, and a server in the wrong hands."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.agent import Agent, CommandContext, CommandFailed, JournalPolicy, SignaturePolicy, SignerFiles
from distributor.agent import record as records
from distributor.errors import ConfigurationError
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import ScriptedGateway, ScriptedSession, assignment
from tests.support.serving_agent import serving
from tests.support.signed_commands import as_another, new_signer, requiring, signed, trusted
from tests.support.waiting import until

SIGNER = new_signer()


class Ran(list[str]):
    """The ids of the commands whose handler was called."""

    async def __call__(self, command: CommandContext) -> None:
        self.append(command.command_id)


@pytest.fixture
def ran() -> Ran:
    return Ran()


def agent_of(scripted: ScriptedGateway, ran: Ran, journal: Path) -> Agent:
    made = Agent("agent123", server=scripted.address, capacity=30)
    made.journal = JournalPolicy(journal)
    made.signatures = requiring(SIGNER)
    made.add_handler("WORK", ran)
    return made


async def refusal(session: ScriptedSession, one: gateway.Assignment) -> str:
    await session.command(one)
    return (await session.refused(one.command.command_id)).reason.code


async def run(session: ScriptedSession, one: gateway.Assignment) -> None:
    await session.command(one)
    await session.result(one.command.command_id)


async def test_only_what_a_trusted_sender_signed_for_this_agent_runs(
    gateway: ScriptedGateway, ran: Ran, tmp_path: Path
) -> None:
    async with serving(agent_of(gateway, ran, tmp_path / "j"), gateway) as served:
        session = served.session
        await run(session, signed(SIGNER, "good", path="/x"))
        assert await refusal(session, assignment("unsigned", "WORK")) == "signature_missing"
        assert await refusal(session, signed(new_signer(), "stranger")) == "signer_unknown"
        assert await refusal(session, signed(SIGNER, "late", validity=-1.0)) == "signature_expired"
        altered = signed(SIGNER, "altered", path="/x")
        altered.command.params["path"] = "/y"
        assert await refusal(session, altered) == "signature_invalid"
        elsewhere = signed(SIGNER, "elsewhere")
        elsewhere.command.agent_id = "other"
        assert await refusal(session, elsewhere) == "signature_invalid"
        await run(session, assignment("ping", "PING"))
    assert ran == ["good"]


async def test_an_agent_follows_the_files_of_the_keys_that_it_trusts(
    gateway: ScriptedGateway, ran: Ran, tmp_path: Path
) -> None:
    keys, successor = tmp_path / "keys", new_signer()
    keys.mkdir()
    (keys / "first.pem").write_bytes(SIGNER.public_pem())
    agent, files = agent_of(gateway, ran, tmp_path / "j"), SignerFiles([str(keys)], check_seconds=0.02)
    agent.signatures = SignaturePolicy(files)
    async with serving(agent, gateway) as served:
        session = served.session
        await run(session, signed(SIGNER, "first"))
        assert await refusal(session, signed(successor, "early")) == "signer_unknown"
        (keys / "second.pem").write_bytes(successor.public_pem())
        await until(lambda: len(files.current) == 2)
        await run(session, signed(successor, "second"))
        (keys / "first.pem").unlink()
        await until(lambda: len(files.current) == 1)
        assert await refusal(session, signed(SIGNER, "late")) == "signer_unknown"
    assert ran == ["first", "second"]


async def test_a_signature_starts_one_command(gateway: ScriptedGateway, ran: Ran, tmp_path: Path) -> None:
    async with serving(agent_of(gateway, ran, tmp_path / "j"), gateway) as served:
        first = signed(SIGNER, "first")
        await served.session.command(first, as_another(first, "second"))
        assert (await served.session.refused("second")).reason.code == "signature_replayed"
        await served.session.result("first")
        assert await refusal(served.session, as_another(first, "third")) == "signature_replayed"
    assert ran == ["first"]


async def test_a_signature_starts_one_command_over_a_restart_of_the_agent(
    gateway: ScriptedGateway, ran: Ran, tmp_path: Path
) -> None:
    first = signed(SIGNER, "first")
    async with serving(agent_of(gateway, ran, tmp_path / "j"), gateway) as served:
        await run(served.session, first)
    async with serving(agent_of(gateway, ran, tmp_path / "j"), gateway) as served:
        assert await refusal(served.session, as_another(first, "second")) == "signature_replayed"
    assert ran == ["first"]


@pytest.mark.parametrize("journal", [True, False])
async def test_a_command_does_not_start_again_once_its_id_is_forgotten(
    gateway: ScriptedGateway, ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: bool
) -> None:
    monkeypatch.setattr(records, "REMEMBERED", 1)
    first = signed(SIGNER, "first")
    agent = agent_of(gateway, ran, tmp_path / "j")
    if not journal:
        agent.journal, agent.signatures = None, SignaturePolicy(trusted(SIGNER), ())
    async with serving(agent, gateway) as served:
        await run(served.session, first)
        await run(served.session, signed(SIGNER, "other"))
        await run(served.session, signed(SIGNER, "another"))
        assert await refusal(served.session, first) == "signature_replayed"
    assert ran == ["first", "other", "another"]


async def test_a_redelivered_command_runs_once(gateway: ScriptedGateway, ran: Ran, tmp_path: Path) -> None:
    first = signed(SIGNER, "first")
    async with serving(agent_of(gateway, ran, tmp_path / "j"), gateway) as served:
        await run(served.session, first)
        again = as_another(first, "first")
        again.lease_id, again.attempt = "lease-first-2", 2
        await served.session.command(again)
        await served.session.until(lambda _: len(served.session.results("first")) == 2)
    assert ran == ["first"]


async def test_no_mark_of_the_server_makes_a_signed_command_run_again(
    gateway: ScriptedGateway, ran: Ran, tmp_path: Path
) -> None:
    agent = agent_of(gateway, ran, tmp_path / "j")

    @agent.handler("FAIL")
    async def fail(command: CommandContext) -> None:
        raise CommandFailed("broken", "always")

    async with serving(agent, gateway) as served:
        one = signed(SIGNER, "one", "FAIL")
        one.command.max_runs_by_reason["broken"] = 100
        await served.session.command(one)
        assert not (await served.session.result("one")).transient


async def test_required_signatures_need_a_journal(gateway: ScriptedGateway, ran: Ran, tmp_path: Path) -> None:
    agent = agent_of(gateway, ran, tmp_path / "j")
    agent.journal = None
    with pytest.raises(ConfigurationError, match="need a journal"):
        await agent.serve()
