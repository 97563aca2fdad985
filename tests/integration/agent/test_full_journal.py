"""A journal that takes no more: new commands are refused, what runs is reported, and room is noticed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from distributor.agent import Agent, CommandContext, JournalPolicy
from distributor.agent.journal import JOURNAL_FAILED, JOURNAL_FULL, Journal, JournalError
from distributor.agent.journal_entries import CommandEntry, JournalBatch, Stage
from distributor.agent.journal_policy import MIN_JOURNAL_BYTES
from distributor.model.command import Reason
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, ScriptedSession, assignment
from tests.support.serving_agent import Gate, serving

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
LARGE = "x" * 200_000


def problems(session: ScriptedSession) -> tuple[int, list[str]]:
    """Credit and problems in the latest heartbeat."""
    beat = [message.heartbeat for message in session.seen if message.HasField("heartbeat")][-1]
    return beat.credit, [problem.code for problem in beat.problems]


async def test_near_its_bound_a_journal_takes_no_new_commands_until_results_are_acknowledged(
    gateway: ScriptedGateway, agent: Agent, gate: Gate, tmp_path: Path
) -> None:
    agent.journal = JournalPolicy(tmp_path / "small.journal", MIN_JOURNAL_BYTES)

    @agent.handler("LARGE")
    async def large(command: CommandContext) -> str:
        return LARGE

    async with serving(agent, gateway) as served:
        session = served.session
        session.ack_results = False
        await session.command(assignment("running", "WAIT"))
        await session.started("running")
        sent = 0
        while problems(session) == (30, []) or problems(session)[1] == []:
            sent += 1
            assert sent < 6
            await session.command(assignment(f"large-{sent}", "LARGE"))
            await session.result(f"large-{sent}")
            await session.command(assignment(f"ping-{sent}"))
            await session.result(f"ping-{sent}")
        assert problems(session) == (0, [JOURNAL_FULL])
        await session.command(assignment("new", "WAIT"))
        refused = await session.refused("new")
        assert (refused.code, refused.reason.code) == (pb.REFUSAL_CODE_BUSY, JOURNAL_FULL)
        gate.open.set()
        assert (await session.result("running")).status == COMPLETED
        acks = [
            pb.ResultAck(command_id=f"large-{number}", verdict=pb.RESULT_VERDICT_REJECTED)
            for number in range(1, sent + 1)
        ]
        for result_ack in acks:
            result_ack.lease_id = f"lease-{result_ack.command_id}-1"
        await session.send(pb.ConnectResponse(result_acks=acks))
        await session.until(lambda _: problems(session)[1] == [])
        await session.command(assignment("later", "WAIT"))
        assert (await session.result("later")).status == COMPLETED


@pytest.mark.parametrize("code", [JOURNAL_FULL, JOURNAL_FAILED])
async def test_while_its_disk_takes_nothing_an_agent_finishes_what_runs_and_takes_no_more(
    gateway: ScriptedGateway, agent: Agent, gate: Gate, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    broken = True
    commit = Journal.commit

    def failing(journal: Journal, batch: JournalBatch) -> None:
        if broken:
            raise JournalError(Reason(code, "no space left on device"))
        commit(journal, batch)

    async with serving(agent, gateway) as served:
        session = served.session
        await session.command(assignment("running", "WAIT"))
        await session.started("running")
        monkeypatch.setattr(Journal, "commit", failing)
        await session.command(assignment("a", "WAIT"), assignment("ping"), assignment("b", "EXEC"))
        refused = await session.refused("a")
        assert (refused.code, refused.reason.code) == (pb.REFUSAL_CODE_BUSY, code)
        assert "no space left on device" in refused.reason.message
        await session.until(lambda _: problems(session) == (0, [code]))
        await session.result("ping")
        gate.open.set()
        assert (await session.result("running")).status == COMPLETED
        assert session.output("running") == b"running waits\ndone\n"
        broken = False
        await session.until(lambda _: problems(session) == (30, []))
        await session.command(assignment("a", "WAIT", attempt=2))
        assert (await session.result("a")).lease_id == "lease-a-2"
        assert not any(one.command_id == "a" and one.lease_id == "lease-a-1" for m in session.seen for one in m.started)


async def test_what_the_journal_missed_while_it_failed_is_in_it_afterwards(
    gateway: ScriptedGateway, agent: Agent, gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = agent.journal = JournalPolicy(tmp_path / "agent.journal")
    commit = Journal.commit
    broken = True

    def failing(journal: Journal, batch: JournalBatch) -> None:
        if broken:
            raise JournalError(Reason(JOURNAL_FULL, "no space left on device"))
        commit(journal, batch)

    async with serving(agent, gateway) as served:
        session = served.session
        session.ack_results = session.ack_output = False
        await session.command(assignment("a", "WAIT"))
        await session.until(lambda _: session.output("a"))
        monkeypatch.setattr(Journal, "commit", failing)
        gate.open.set()
        await session.result("a")
        await session.until(lambda _: problems(session) == (0, [JOURNAL_FULL]))
        broken = False
        await session.until(lambda _: problems(session)[1] == [])
    _, contents = Journal.open(policy, "agent123")
    (entry,) = contents.commands
    assert entry.result
    assert pb.Result.FromString(entry.result).data.struct_value["done"] == "a"
    assert b"".join(piece.data for piece in contents.output) == b"a waits\ndone\n"


async def test_an_agent_restarted_on_a_full_disk_reports_what_ended_and_takes_no_more(
    gateway: ScriptedGateway, agent: Agent, gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = agent.journal = JournalPolicy(tmp_path / "agent.journal")
    journal, _ = Journal.open(policy, "agent123")
    result = pb.Result(command_id="ended", lease_id="lease", status=COMPLETED)
    entries = [
        CommandEntry("ended", "lease", Stage.FINISHED, 0, result.SerializeToString()),
        CommandEntry("ran", "lease", Stage.STARTED),
        CommandEntry("waited", "lease", Stage.RECEIVED),
    ]
    journal.commit(JournalBatch(entries))
    journal.close()
    full, note_opened = True, Journal._note_opened

    def noting(journal: Journal) -> None:
        if full:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        note_opened(journal)

    monkeypatch.setattr(Journal, "_note_opened", noting)
    async with serving(agent, gateway) as served:
        session = served.session
        assert (await session.result("ended")).status == COMPLETED
        assert (await session.result("ran")).reason.code == "outcome_unknown"
        assert (await session.refused("waited")).reason.code == "agent_restarted"
        await session.until(lambda _: problems(session) == (0, [JOURNAL_FULL]))
        await session.command(assignment("new", "WAIT"))
        refused = await session.refused("new")
        assert (refused.code, refused.reason.code) == (pb.REFUSAL_CODE_BUSY, JOURNAL_FULL)
        full = False
        await session.until(lambda _: problems(session) == (30, []))
        gate.open.set()
        await session.command(assignment("new", "WAIT", attempt=2))
        assert (await session.result("new")).status == COMPLETED
