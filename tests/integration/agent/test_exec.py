"""EXEC with real programs, through a real stream."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from distributor.agent import Agent, CommandContext, ExecPolicy
from distributor.agent.current_session import CurrentSession
from distributor.agent.handlers.exec_program import ExecHandler
from distributor.agent.output_window import OutputWindow
from distributor.agent.process_group import ProcessGroup, Program
from distributor.agent.process_table import group_members, running
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, ScriptedSession, assignment
from tests.support.serving_agent import serving
from tests.support.waiting import PATIENCE_SECONDS, until

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
FAILED = command_pb2.COMMAND_STATUS_FAILED
TIMEOUT = command_pb2.COMMAND_STATUS_TIMEOUT
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED
STDERR = command_pb2.OUTPUT_STREAM_STDERR

IGNORES_TERM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(3_600)
"""
"""Outlives every patience here: only a KILL ends it in time."""


def agent_for(gateway: ScriptedGateway, policy: ExecPolicy | None) -> Agent:
    return Agent("agent123", server=gateway.address, capacity=4, exec_policy=policy)


@pytest.fixture
async def session(gateway: ScriptedGateway) -> AsyncIterator[ScriptedSession]:
    """A session of an agent that may run anything."""
    async with serving(agent_for(gateway, ExecPolicy(stop_grace=0.3)), gateway) as served:
        yield served.session


@pytest.fixture
async def patient(gateway: ScriptedGateway) -> AsyncIterator[ScriptedSession]:
    """A session of an agent that gives programs all the time they want to clean up."""
    async with serving(agent_for(gateway, ExecPolicy(stop_grace=PATIENCE_SECONDS)), gateway) as served:
        yield served.session


async def run(session: ScriptedSession, *argv: str, **params: Any) -> pb.Result:
    await session.command(assignment("a", "EXEC", argv=list(argv), **params))
    return await session.result("a")


async def printed_pid(session: ScriptedSession, command_id: str = "a") -> int:
    """The number that the command printed first."""
    await session.until(lambda _: b"\n" in session.output(command_id))
    return int(session.output(command_id).split()[0])


async def test_a_program_that_succeeds(session: ScriptedSession) -> None:
    result = await run(session, "sh", "-c", "echo out; echo err >&2")
    assert (result.status, result.exit_code, result.output_bytes) == (COMPLETED, 0, 8)
    assert result.HasField("exit_code")
    assert session.output("a", command_pb2.OUTPUT_STREAM_STDOUT) == b"out\n"
    assert session.output("a", STDERR) == b"err\n"


async def test_a_program_starts_only_once_its_receipt_has_left(session: ScriptedSession) -> None:
    """Otherwise an agent that dies at this moment could be given the command again, and start it twice."""
    assert (await run(session, "true")).status == COMPLETED
    first = next(message for message in session.seen if message.received)
    assert not first.started


async def test_a_program_that_exits_3(session: ScriptedSession) -> None:
    result = await run(session, "sh", "-c", "echo sorry; exit 3")
    assert (result.status, result.reason.code, result.exit_code) == (FAILED, "exit_nonzero", 3)
    assert session.output("a") == b"sorry\n"


async def test_a_program_killed_by_a_signal(session: ScriptedSession) -> None:
    result = await run(session, "sh", "-c", "kill -SEGV $$")
    assert (result.status, result.reason.code, result.exit_code) == (FAILED, "killed_by_signal", 128 + signal.SIGSEGV)
    assert result.reason.message == "killed by SIGSEGV"


async def test_a_megabyte_arrives_whole(session: ScriptedSession) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)"
    result = await run(session, sys.executable, "-c", code)
    assert (result.status, result.output_bytes) == (COMPLETED, 1_048_576)
    assert session.output("a") == bytes(range(256)) * 4096
    parts = [part for message in session.seen for part in message.output]
    assert [part.offset for part in parts] == [sum(len(p.data) for p in parts[:n]) for n in range(len(parts))]
    assert max(len(part.data) for part in parts) <= 65_536


async def test_bytes_that_are_no_utf8_stay_exact(session: ScriptedSession) -> None:
    await run(session, "printf", r"\377\376\000ok")
    assert session.output("a") == b"\xff\xfe\x00ok"


async def test_output_is_seen_while_the_program_runs(session: ScriptedSession) -> None:
    await session.command(assignment("a", "EXEC", argv=["sh", "-c", "echo first; sleep 60"]))
    await session.until(lambda _: session.output("a") == b"first\n")
    assert not any(message.results for message in session.seen)


async def test_environment_directory_and_input(
    session: ScriptedSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_SECRET", "not for programs")
    script = 'printf "%s|%s|%s|" "$GREETING" "$AGENT_SECRET" "$PWD"; cat'
    await run(session, "sh", "-c", script, env={"GREETING": "hi"}, cwd=str(tmp_path), stdin="é in")
    assert session.output("a").decode() == f"hi||{tmp_path}|é in"


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["no-such-program"], "program_not_found"),
        (["/"], "program_not_found"),
        (["sh", 5], "invalid_params"),
        ([], "invalid_params"),
        (["sh", "-c", "x" * 3_000_000], "program_not_started"),
    ],
)
async def test_what_cannot_be_started(session: ScriptedSession, argv: list[str], code: str) -> None:
    result = await run(session, *argv)
    assert (result.status, result.reason.code) == (FAILED, code)


SCRIPT_FAULTS = [
    ("#!/bin/sh\r\necho hi\r\n", 0o755, "program_not_started", "first line ends in CR LF; save the script with LF"),
    (
        "#!/no/such/interpreter -x\n",
        0o755,
        "program_not_started",
        "interpreter '/no/such/interpreter' in",
    ),
    ("#!/etc/passwd\n", 0o755, "program_not_started", "interpreter '/etc/passwd' in its first line is not executable"),
    ("echo hi\n", 0o755, "program_not_started", "needs a first line that names its interpreter, as #!/bin/sh"),
    ("", 0o755, "program_not_started", "it is not in an executable format"),
    ("\x7fELF and nothing more", 0o755, "program_not_started", "built for another kind of processor"),
    (
        "#!/bin/sh\necho hi\n",
        0o644,
        "program_not_found",
        "is not executable for this agent's user; make it so with",
    ),
]


@pytest.mark.parametrize(("text", "mode", "code", "message"), SCRIPT_FAULTS)
async def test_why_a_script_does_not_start(
    session: ScriptedSession, tmp_path: Path, text: str, mode: int, code: str, message: str
) -> None:
    script = tmp_path / "script"
    script.write_bytes(text.encode())
    script.chmod(mode)
    result = await run(session, str(script))
    assert (result.status, result.reason.code) == (FAILED, code)
    assert message in result.reason.message


async def test_a_program_that_is_being_written_says_so(session: ScriptedSession, tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy(sys.executable, program)
    with program.open("ab"):
        result = await run(session, str(program))
    assert result.reason.code == "program_not_started"
    assert "it is being written to" in result.reason.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-program", "there is no program 'no-such-program' on the PATH of this agent"),
        ("/no/such/program", "there is no program '/no/such/program' on this host"),
        ("/etc", "'/etc' is a directory, not a program"),
        ("script", "script' is not executable for this agent's user"),
    ],
)
async def test_why_a_program_is_not_found(session: ScriptedSession, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    result = await run(session, name, env={"PATH": str(tmp_path)})
    assert result.reason.code == "program_not_found"
    assert message in result.reason.message


async def test_cancel_kills_a_program_that_ignores_term(session: ScriptedSession) -> None:
    await session.command(assignment("a", "EXEC", argv=[sys.executable, "-c", IGNORES_TERM]))
    pid = await printed_pid(session)
    await session.cancel("a")
    result = await session.result("a")
    assert (result.status, result.reason.code) == (CANCELLED, "cancelled")
    assert not group_members(pid)
    findings = [report.finding for message in session.seen for report in message.cancel_reports]
    assert findings == [pb.CANCEL_FINDING_STOPPING]


async def test_the_kill_is_repeated_for_what_the_first_one_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process forked while the first KILL is delivered survives it; here the first one reaches nobody at all."""
    monkeypatch.setattr("distributor.agent.process_group.KILL_AGAIN_SECONDS", 0.05)
    group = await ProcessGroup.start(Program(sys.executable, (sys.executable, "-c", IGNORES_TERM), {}))
    try:
        assert (await group.output.next())[0].data
        send, kills = group._signal, []

        def miss_once(number: signal.Signals) -> None:
            if number is signal.SIGKILL:
                kills.append("kill")
            if len(kills) != 1:
                send(number)

        monkeypatch.setattr(group, "_signal", miss_once)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await group.stop(grace=0.05)
        assert len(kills) > 1
        assert group.returncode == -signal.SIGKILL
    finally:
        monkeypatch.undo()
        group.kill()
        await group.exited()
        group.close()


async def test_a_program_that_obeys_term_may_clean_up(patient: ScriptedSession) -> None:
    script = "trap 'echo cleaned up; exit 0' TERM; echo $$; while :; do sleep 0.01; done"
    await patient.command(assignment("a", "EXEC", argv=["sh", "-c", script]))
    await printed_pid(patient)
    await patient.cancel("a")
    assert (await patient.result("a")).status == CANCELLED
    assert patient.output("a").endswith(b"cleaned up\n")


async def test_the_time_limit_ends_the_whole_group(session: ScriptedSession) -> None:
    script = "echo $$; sleep 60 & sleep 60"
    await session.command(assignment("a", "EXEC", argv=["sh", "-c", script], time_limit=1.5))
    result = await session.result("a")
    assert (result.status, result.reason.code) == (TIMEOUT, "time_limit")
    assert not group_members(await printed_pid(session))


async def test_a_stopped_program_is_cancelled_as_well(patient: ScriptedSession) -> None:
    script = "trap 'echo cleaned up; exit' TERM; echo $$; kill -STOP $$; sleep 60"
    await patient.command(assignment("a", "EXEC", argv=["sh", "-c", script]))
    pid = await printed_pid(patient)
    await until(lambda: "\nState:\tT" in Path(f"/proc/{pid}/status").read_text())
    await patient.cancel("a")
    assert (await patient.result("a")).status == CANCELLED
    assert patient.output("a").endswith(b"cleaned up\n")
    assert not group_members(pid)


async def test_a_grandchild_that_outlives_the_program_does_not_hang_the_command(session: ScriptedSession) -> None:
    result = await run(session, "sh", "-c", "echo $$; (trap '' TERM; sleep 3600) & exit 0")
    assert (result.status, result.exit_code) == (COMPLETED, 0)
    assert result.data.struct_value.fields["killed_leftover_processes"].bool_value
    assert not group_members(await printed_pid(session))


def daemon(pid_file: Path, *, clean: bool = False) -> str:
    """Shell words that start a process in a session of its own, and wait until it runs."""
    setsid = "env -i setsid" if clean else "setsid"
    return f"{setsid} sh -c 'echo $$ > {pid_file}; exec sleep 600' & while ! [ -s {pid_file} ]; do sleep 0.01; done"


def runs(pid: int) -> bool:
    return any(running([pid]))


async def test_a_daemon_that_escaped_does_not_hang_the_command_and_is_reported(
    session: ScriptedSession, tmp_path: Path
) -> None:
    result = await run(session, "sh", "-c", daemon(tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    try:
        assert result.status == COMPLETED
        assert [(one.pid, one.name) for one in result.survivors] == [(pid, "sleep 600")]
        (survivor,) = result.data.struct_value.fields["surviving_processes"].list_value.values
        assert dict(survivor.struct_value) == {"pid": pid, "name": "sleep 600"}
        assert runs(pid), "a program may start a daemon"
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("clean", [False, True], ids=["marked", "with a parent"])
async def test_a_cancel_also_ends_what_has_left_the_group(
    session: ScriptedSession, tmp_path: Path, clean: bool
) -> None:
    script = daemon(tmp_path / "pid", clean=clean) + "; echo ready; " + ("sleep 600" if clean else "exec sleep 600")
    await session.command(assignment("a", "EXEC", argv=["sh", "-c", script]))
    await session.until(lambda _: session.output("a") == b"ready\n")
    pid = int((tmp_path / "pid").read_text())
    await session.cancel("a")
    result = await session.result("a")
    assert (result.status, list(result.survivors)) == (CANCELLED, [])
    assert not runs(pid)


async def test_a_command_of_another_agent_is_left_alone_whatever_its_id(
    gateway: ScriptedGateway, session: ScriptedSession
) -> None:
    other = Agent("other", server=gateway.address, exec_policy=ExecPolicy())
    async with serving(other, gateway) as served:
        for one in (session, served.session):
            await one.command(assignment("a", "EXEC", argv=["sh", "-c", "echo $$; exec sleep 600"]))
            others = await printed_pid(one)
        await session.cancel("a")
        assert (await session.result("a")).status == CANCELLED
        assert runs(others)


async def test_an_orphaned_daemon_is_found_by_its_environment(session: ScriptedSession, tmp_path: Path) -> None:
    script = f"({daemon(tmp_path / 'pid')}); echo ready; exec sleep 600"
    await session.command(assignment("a", "EXEC", argv=["sh", "-c", script]))
    await session.until(lambda _: session.output("a") == b"ready\n")
    pid = int((tmp_path / "pid").read_text())
    (process,) = running([pid])
    assert process.group == pid
    await session.cancel("a")
    assert (await session.result("a")).status == CANCELLED
    assert not runs(pid)


async def test_a_process_that_survives_the_kill_is_reported_and_the_command_runs_until_it_has_ended(
    gateway: ScriptedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of another user would, or one in an uninterruptible call."""
    monkeypatch.setattr("distributor.agent.agent.KILLED_SECONDS", 0.3)
    monkeypatch.setattr("distributor.agent.process_group.KILL_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr("distributor.agent.process_group.send_signal", lambda process, number: None)
    async with serving(agent_for(gateway, ExecPolicy(stop_grace=0.1)), gateway, heartbeat_interval=0.2) as served:
        session = served.session
        script = daemon(tmp_path / "pid") + "; echo ready; exec sleep 600"
        await session.command(assignment("a", "EXEC", argv=["sh", "-c", script]))
        await session.until(lambda _: session.output("a") == b"ready\n")
        pid = int((tmp_path / "pid").read_text())
        try:
            await session.cancel("a")
            await session.until(lambda seen: sum(len(message.cancel_reports) for message in seen) == 2)
            reports = [report for message in session.seen for report in message.cancel_reports]
            assert [report.finding for report in reports] == [
                pb.CANCEL_FINDING_STOPPING,
                pb.CANCEL_FINDING_COULD_NOT_STOP,
            ]
            assert [(one.pid, one.name) for one in reports[1].survivors] == [(pid, "sleep 600")]
            beats = sum(message.HasField("heartbeat") for message in session.seen)
            await session.until(lambda seen: sum(message.HasField("heartbeat") for message in seen) > beats)
            assert (session.seen[-1].heartbeat.running, session.seen[-1].heartbeat.credit) == (1, 3)
            assert not any(message.results for message in session.seen)
        finally:
            os.kill(pid, signal.SIGKILL)
        assert (await session.result("a")).status == CANCELLED


async def test_a_survivor_of_a_time_limit_is_named_in_the_failure(
    gateway: ScriptedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.agent.agent.KILLED_SECONDS", 0.3)
    monkeypatch.setattr("distributor.agent.process_group.KILL_AGAIN_SECONDS", 0.05)
    monkeypatch.setattr("distributor.agent.process_group.send_signal", lambda process, number: None)
    async with serving(agent_for(gateway, ExecPolicy(stop_grace=0.1)), gateway) as served:
        session = served.session
        script = daemon(tmp_path / "pid") + "; exec sleep 600"
        await session.command(assignment("a", "EXEC", time_limit=1, argv=["sh", "-c", script]))
        result = await session.result("a")
        pid = int((tmp_path / "pid").read_text())
        try:
            assert (result.status, result.reason.code) == (FAILED, "would_not_stop")
            assert [(one.pid, one.name) for one in result.survivors] == [(pid, "sleep 600")]
        finally:
            os.kill(pid, signal.SIGKILL)
        await session.until(lambda seen: seen[-1].heartbeat.credit == 4)


async def test_a_program_that_ended_before_a_cancel_keeps_its_outcome(gateway: ScriptedGateway) -> None:
    """Its last output still waits for room, so the handler has not returned."""
    async with serving(agent_for(gateway, ExecPolicy(stop_grace=0.3)), gateway, max_output=1_000) as served:
        session = served.session
        session.ack_output = False
        script = "echo $$; head -c 5000 /dev/zero; exit 3"
        await session.command(assignment("a", "EXEC", argv=["sh", "-c", script]))
        await session.until(lambda _: len(session.output("a")) == 1_000)
        pid = await printed_pid(session)
        await until(lambda: not Path(f"/proc/{pid}").exists())
        await session.cancel("a")
        result = await session.result("a")
        assert (result.status, result.reason.code, result.exit_code) == (FAILED, "exit_nonzero", 3)


async def test_a_program_that_prints_to_nobody_can_be_cancelled(gateway: ScriptedGateway) -> None:
    async with serving(agent_for(gateway, ExecPolicy(stop_grace=0.3)), gateway) as served:
        session = served.session
        session.ack_output = False
        await session.command(assignment("a", "EXEC", argv=["yes"]))
        await session.until(lambda _: len(session.output("a")) == 262_144)
        await session.cancel("a")
        result = await session.result("a")
        assert (result.status, result.output_bytes) == (CANCELLED, 262_144)


async def test_a_cancel_that_coincides_with_the_end_of_the_program_comes_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = CommandContext(assignment("a", "EXEC", argv=["sleep", "0.2"]), OutputWindow(), CurrentSession())
    exited = ProcessGroup.process_exited

    def exited_and_cancelled(group: ProcessGroup) -> None:
        exited(group)
        task.cancel()

    monkeypatch.setattr(ProcessGroup, "process_exited", exited_and_cancelled)
    task = asyncio.create_task(ExecHandler(ExecPolicy())(context))
    assert (await asyncio.wait_for(asyncio.shield(task), PATIENCE_SECONDS)).exit_code == 0


async def test_exec_is_refused_unless_allowed(gateway: ScriptedGateway, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(agent_for(gateway, None), gateway) as served:
        assert "EXEC" not in served.session.hello.types
        await served.session.command(assignment("a", "EXEC", argv=["true"]))
        refused = await served.session.refused("a")
        assert (refused.code, refused.reason.code) == (pb.REFUSAL_CODE_UNSUPPORTED, "exec_not_allowed")
        assert "refused a command agent_id=agent123 attempt=1 command_id=a reason=exec_not_allowed" in caplog.text


@pytest.mark.parametrize(
    ("argv", "params", "code"),
    [
        (["echo", "hi"], {}, ""),
        (["/bin/echo", "hi"], {}, ""),
        (["sh", "-c", "echo hi"], {}, "program_not_allowed"),
        (["echo", "hi"], {"env": {"LD_PRELOAD": "x.so"}}, "invalid_params"),
    ],
)
async def test_only_allowed_programs_run(
    gateway: ScriptedGateway, argv: list[str], params: dict[str, Any], code: str
) -> None:
    async with serving(agent_for(gateway, ExecPolicy(allowed_programs=("echo",))), gateway) as served:
        result = await run(served.session, *argv, **params)
        assert result.reason.code == code


async def test_a_path_of_the_callers_does_not_smuggle_in_another_program(
    gateway: ScriptedGateway, tmp_path: Path
) -> None:
    (tmp_path / "echo").write_text("#!/bin/sh\necho smuggled\n")
    (tmp_path / "echo").chmod(0o755)
    async with serving(agent_for(gateway, ExecPolicy(allowed_programs=("echo",))), gateway) as served:
        for command_id, argv, cwd in [("a", ["echo"], None), ("b", ["./echo"], str(tmp_path))]:
            params: dict[str, Any] = {"argv": argv, "env": {"PATH": str(tmp_path)}, "cwd": cwd}
            await served.session.command(assignment(command_id, "EXEC", **params))
            assert (await served.session.result(command_id)).reason.code == "program_not_allowed"


async def test_each_name_of_a_multi_call_binary_is_a_program_of_its_own(
    gateway: ScriptedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = tmp_path / "box"
    box.write_text('#!/bin/sh\necho "${0##*/}"\n')
    box.chmod(0o755)
    for name in ("list", "remove"):
        (tmp_path / name).symlink_to(box)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    async with serving(agent_for(gateway, ExecPolicy(allowed_programs=("list",))), gateway) as served:
        session = served.session
        for name, code in [("list", ""), ("remove", "program_not_allowed"), ("box", "program_not_allowed")]:
            for argv0 in (name, str(tmp_path / name)):
                command_id = f"{len(session.seen)} {argv0}"
                await session.command(assignment(command_id, "EXEC", argv=[argv0]))
                assert (await session.result(command_id)).reason.code == code


async def test_nothing_is_left_running_when_the_agent_is_cancelled(gateway: ScriptedGateway) -> None:
    async with serving(agent_for(gateway, ExecPolicy(stop_grace=0.1)), gateway) as served:
        await served.session.command(assignment("a", "EXEC", argv=[sys.executable, "-c", IGNORES_TERM]))
        pid = await printed_pid(served.session)
        served.task.cancel()
        await asyncio.wait({served.task}, timeout=PATIENCE_SECONDS)
        assert served.task.done()
        assert not group_members(pid)
