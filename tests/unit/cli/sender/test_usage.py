"""Wrong usage: one line that names the argument and what it may be, exit code 2, no server needed."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from distributor.cli.command_sender import command_sender, run
from distributor.cli.distributor import main

ID = "01980000-0000-7000-8000-000000000000"
SEND = ["--agent=a1", "--type=PING"]


@pytest.fixture(autouse=True)
def _something_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{}")))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--type=PING"], "Missing option '--agent'."),
        (["--agent=a1"], "Missing option '--type', or -- PROGRAM."),
        (["--agent=", "--type=PING"], "'--agent': must be 1 to 128 of A-Z a-z 0-9 . _ -, not empty"),
        (["--agent=a b", "--type=PING"], "not 'a b'"),
        ([f"--agent={'a' * 129}", "--type=PING"], "(129 characters)"),
        (["--agent=a\x1b[2J", "--type=PING"], r"'a\x1b[2J'"),
        (["--agent=a1", "--type=1"], "'--type': must be a letter and up to 63 of"),
        (["--agent=a1", f"--type={'T' * 65}"], "must be a letter and up to 63 of"),
        (
            ["--agent=a1", "uname", "-a"],
            "No such option '-a'; a program with options goes after --, as in: -- uname -a",
        ),
        (["send", "--agent", "a1", "ls", "-o", "x"], "as in: -- ls -o x"),
        ([*SEND, "--params=text"], "'--params': must be NAME=VALUE, not 'text'"),
        ([*SEND, "--params==x"], "must be NAME=VALUE"),
        ([*SEND, "--params=a=1", "--params=a=2"], "the param 'a' is given twice"),
        ([*SEND, "--params=a=1", '--params-json={"a": 1}'], "the param 'a' is given twice"),
        ([*SEND, "--params-json=[1]"], "'--params-json': must be a JSON object, not '[1]'"),
        ([*SEND, "--params-json=-", "--input=-"], "only one of --params-json and --input can be standard input"),
        ([*SEND, "--input=-", "--params-json=-"], "only one of --input and --params-json can be standard input"),
        ([*SEND, "--params-json=-", "--params-json=-"], "only one of --params-json can be standard input"),
        ([*SEND, "--params-json={"], "is not valid JSON: Expecting"),
        ([*SEND, '--params-json={"a": {"b": 1, "b": 2}}'], "has a name twice in one object"),
        ([*SEND, f"--params-json={'[' * 100_000}"], "nests too deeply"),
        ([*SEND, "--params-json=@/nowhere/at/all"], "cannot read /nowhere/at/all: No such file or directory"),
        ([*SEND, "--input=/nowhere/at/all"], "/nowhere/at/all"),
        ([*SEND, "--repeat=0"], "'--repeat': 0 is not in the range 1<=x<=100000"),
        ([*SEND, "--agent=a2", "--repeat=100000"], "at most 100,000 commands, not 200,000"),
        ([*SEND, "--priority=101"], "'--priority': must be 0 to 100, low, normal or high, not '101'"),
        ([*SEND, "--priority=-1"], "not '-1'"),
        ([*SEND, "--priority=urgent"], "not 'urgent'"),
        ([*SEND, "--priority=٣"], "must be 0 to 100"),
        (["cancel", "01980000-0000-7000-8000-ffffffffffff", "--timeout=1s"], "--timeout needs --wait"),
        (["agents", "a1", "--status=busy"], "either ID or --status, not both"),
        (["agents", "--status=away"], "'away' is not one of 'offline', 'draining', 'degraded', 'busy', 'online'"),
        ([*SEND, "--max-runs=0"], "'--max-runs': 0 is not in the range 1<=x<=100"),
        ([*SEND, "--max-runs-for=flaky"], "'--max-runs-for': must be REASON=N with N from 1 to 100, not 'flaky'"),
        ([*SEND, "--max-runs-for=Flaky=2"], "must be REASON=N with a reason such as exit_nonzero, not 'Flaky=2'"),
        ([*SEND, "--max-runs-for=flaky=101"], "with N from 1 to 100, not 'flaky=101'"),
        ([*SEND, "--time-limit=0"], "'--time-limit': must be 1ms to 30d, not '0'"),
        ([*SEND, "--idle-limit=0"], "'--idle-limit': must be 1ms to 30d, not '0'"),
        ([*SEND, "--time-limit=-5s"], "must be a duration such as 500ms, 30s, 5m, 2h or 1d, not '-5s'"),
        ([*SEND, "--time-limit=31d"], "must be 1ms to 30d, not '31d'"),
        ([*SEND, "--time-limit=1e9"], "must be a duration"),
        ([*SEND, "--queue-ttl=soon"], "'--queue-ttl': must be a duration"),
        ([*SEND, "--offline=maybe"], "'maybe' is not one of 'queue', 'fail'"),
        ([*SEND, "--idempotency-key=a b"], "must be 1 to 128 printable ASCII characters without spaces"),
        ([*SEND, "--idempotency-key="], "must be 1 to 128"),
        ([*SEND, "--idempotency-key=k", "--repeat=2"], "--idempotency-key needs exactly one command, not 2"),
        ([*SEND, "--timeout=5s"], "--timeout needs --wait or --follow; --time-limit bounds the run"),
        ([*SEND, "--wait", "--timeout=x"], "'--timeout': must be a duration"),
        ([*SEND, "--passthrough-exit-code"], "--passthrough-exit-code needs --wait or --follow"),
        ([*SEND, "--wait", "--repeat=2", "--passthrough-exit-code"], "needs exactly one command, not 2"),
        ([*SEND, "--follow", "-o", "json"], "use -o jsonl or -o table, not json"),
        ([*SEND, "--follow", "--repeat=201"], "at most 200 commands can be followed at once, not 201"),
        ([*SEND, "-o", "xml"], "'xml' is not one of 'table', 'json', 'jsonl'"),
        ([*SEND, "--", "uname"], "a program to run needs --type EXEC, not PING"),
        (["--agent=a1", '--params-json={"argv": []}', "--", "uname"], "the param 'argv' is given twice"),
        ([*SEND, "--colour"], "No such option '--colour'"),
        (["get"], "Missing argument 'ID...'."),
        (["get", "x"], "must be a command id, not 'x'"),
        (["result", ""], "must be a command id, not empty"),
        (["retry"], "Missing argument 'ID', or an option that chooses commands, such as --agent."),
        (["retry", "--yes", "--limit=5"], "Missing argument 'ID', or an option that chooses commands"),
        (["retry", ID, "--agent=a1"], "either ID or options that choose commands, not both"),
        (["retry", ID, "--limit=5"], "either ID or options that choose commands, not both"),
        (["retry", "--status=queued"], "'queued' is not one of 'completed', 'failed', 'timeout', 'cancelled'"),
        (["retry", "--agent=a1", "--limit=1001"], "1001 is not in the range 1<=x<=1000"),
        (["retry", "--since=1h", "--until=2h"], "--until must be after --since"),
        (["retry", "--agent=a1"], "without a terminal to ask on, add --yes"),
        (["cancel", ID, "x"], "must be a command id, not 'x'"),
        (["watch", "x"], "must be a command id, not 'x'"),
        (["watch", ID, "-o", "json"], "use -o jsonl or -o table, not json"),
        (["watch", ID, ID[:-1] + "1", "--passthrough-exit-code"], "needs exactly one command, not 2"),
        (["list", "--status=done"], "'done' is not one of 'queued', 'assigned'"),
        (["list", "--limit=0"], "'--limit': 0 is not in the range"),
        (["list", "--since=yesterday"], "must be a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h"),
        (["list", "--until=2026-01-31T12:00:00"], "must be a time such as"),
        (["list", "--since=2h", "--until=3h"], "--until must be after --since"),
        (["list", "--agent=a b"], "not 'a b'"),
        (["list", "--type=?"], "must be a letter"),
        (["agents", "a b"], "not 'a b'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (["lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["--server=nonsense", "list"], "--server must be host:port"),
        (["--config=/nowhere/at/all", "list"], "/nowhere/at/all"),
    ],
)
def test_one_line_says_what_is_wrong(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert complaint in shown.err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[]", "--input line 2 must be a JSON object, not '[]'"),
        ("{", "--input line 2 is not valid JSON"),
        ('{"agent": "a1"}', '--input line 2 has the unknown name "agent"; known are agentId, type,'),
        ('{"agentId": "a b"}', "--input line 2 agentId must be 1 to 128 of"),
        ('{"agentId": 7}', "--input line 2 agentId must be text, not 7"),
        ('{"type": "1"}', "--input line 2 type must be a letter"),
        ('{"params": []}', "--input line 2 params must be an object, not []"),
        ('{"priority": 101}', "--input line 2 priority must be 0 to 100"),
        ('{"priority": true}', "--input line 2 priority must be text or a number, not true"),
        ('{"timeLimitSeconds": "5m"}', '--input line 2 timeLimitSeconds must be a number of seconds, not "5m"'),
        ('{"timeLimitSeconds": true}', "--input line 2 timeLimitSeconds must be a number of seconds, not true"),
        ('{"queueTtlSeconds": 0}', "--input line 2 queueTtlSeconds must be 0.001 to 2,592,000, not 0"),
        ('{"queueTtlSeconds": 1e999}', "--input line 2 queueTtlSeconds must be 0.001 to 2,592,000, not Infinity"),
        ('{"timeLimit": 5}', '--input line 2 has the unknown name "timeLimit"; known are agentId, type,'),
        ('{"offline": "x"}', '--input line 2 offline must be queue or fail, not "x"'),
        ('{"maxRuns": 1.5}', "--input line 2 maxRuns must be a whole number, not 1.5"),
        ('{"maxRuns": 0}', "--input line 2 maxRuns must be 1 to 100, not 0"),
        ('{"maxRuns": 101}', "--input line 2 maxRuns must be 1 to 100, not 101"),
        ('{"idempotencyKey": ""}', "--input line 2 idempotencyKey must be 1 to 128"),
        ("\udcff", "--input line 2 is not UTF-8"),
        ('{"slots": 0}', "--input line 2 slots must be 1 to 1,000, not 0"),
        ('{"slots": true}', "--input line 2 slots must be a whole number, not true"),
        ('{"maxRuns": NaN}', "--input line 2 maxRuns must be a whole number, not NaN"),
        ('{"priority": NaN}', "--input line 2 priority must be 0 to 100"),
        ('{"timeLimitSeconds": Infinity}', "--input line 2 timeLimitSeconds must be 0.001 to 2,592,000, not Infinity"),
        ('{"params": {"a": [0, NaN]}}', "--input line 2 params.a[1] is nan, which JSON cannot represent"),
        ('{"params": {"\\ud800": 1}}', "--input line 2 params has a name that is not valid Unicode"),
    ],
)
def test_a_wrong_line_of_a_file_is_named(
    line: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "commands"
    file.write_bytes(b"{}\n" + line.encode(errors="surrogateescape") + b"\n")

    assert run([*SEND, f"--input={file}"]) == 2

    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"type": "PING"}', "--input line 2 is PING, but only EXEC takes a program to run"),
        ('{"type": "EXEC", "params": {}}', "--input line 2 has params, which a program to run excludes"),
    ],
)
def test_a_line_that_is_no_program_beside_one_to_run(
    line: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "commands"
    file.write_text('{"type": "EXEC"}\n' + line)

    assert run(["--agent=a1", f"--input={file}", "--", "ls"]) == 2

    assert capsys.readouterr().err == f"error: {complaint}\n"


def test_a_file_without_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))

    assert run([*SEND, "--input=-"]) == 2

    assert capsys.readouterr().err == "error: --input has no commands\n"


def test_without_arguments_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: command-sender")


@pytest.mark.parametrize("arguments", [["--help"], ["send", "-h"], ["--version"], ["--agent=a1", "--help"]])
def test_help_is_data(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0

    assert capsys.readouterr().out


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])

    assert "    3  --timeout passed before every command had ended" in capsys.readouterr().out


@pytest.mark.parametrize("program", [command_sender, main])
def test_no_line_of_a_list_of_commands_is_cut_off(program: click.Group) -> None:
    shown = CliRunner().invoke(program, ["--help"]).stdout

    assert "..." not in shown.partition("Commands:")[2]
