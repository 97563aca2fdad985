from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from distributor.agent import Compression, JournalPolicy, JournalSync, Orphans
from distributor.cli import command_agent
from distributor.cli.exit_codes import ExitCode
from distributor.settings import AgentSettings


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[AgentSettings]:
    """The settings of each agent that the command line would run."""
    settings: list[AgentSettings] = []

    class Recorded:
        def run(self) -> None:
            """Ends at once."""

    def build(given: AgentSettings) -> Recorded:
        settings.append(given)
        return Recorded()

    monkeypatch.setattr(command_agent, "build_agent", build)
    monkeypatch.setattr("distributor.observability.logging.configure_logging", lambda *_: None)
    return settings


def test_arguments_become_settings(built: list[AgentSettings]) -> None:
    arguments = (
        "--agent-id=a1 --server=10.0.0.1:5 --capacity=3 --allow-exec --allow-program=ls --allow-program=/bin/cat "
        "--orphan-after=90 --journal=off --orphans=report"
    )
    outcome = CliRunner().invoke(command_agent.main, [*arguments.split(), "--label=a=1,2", "--label=b=2"])
    assert outcome.exit_code == 0, outcome.output
    (settings,) = built
    assert (settings.agent_id, settings.server, settings.capacity) == ("a1", "10.0.0.1:5", 3)
    assert settings.orphan_after == 90
    assert (settings.journal, settings.orphans) == ("off", "report")
    assert (settings.allow_exec, settings.allowed_programs) == (True, ("ls", "/bin/cat"))
    assert settings.labels == {"a": "1,2", "b": "2"}


def test_what_is_not_given_is_left_to_the_other_sources(
    built: list[AgentSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISTRIBUTOR_AGENT_CAPACITY", "7")
    config = tmp_path / "agent.toml"
    config.write_text('[agent]\nallow_exec = true\ncapacity = 5\nlabels = {zone = "a"}\n')
    outcome = CliRunner().invoke(command_agent.main, ["--config", str(config)])
    assert outcome.exit_code == 0, outcome.output
    assert (built[0].capacity, built[0].allow_exec, built[0].labels) == (7, True, {"zone": "a"})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--agent=bad id", "must be 1 to 128 of A-Z a-z 0-9 . _ -"),
        ("--capacity=0", "--capacity must be greater than or equal to 1"),
        ("--orphan-after=29", "--orphan-after must be 0, or at least 30: a server answers every heartbeat interval"),
        ("--server=nowhere", "must be host:port"),
        ("--label=nothing", "--label must be NAME=VALUE, not 'nothing'"),
        ("--agent=", "--agent must be 1 to 128"),
        ("--label=a=b|--label=a=c", "--label has the name 'a' twice"),
        ("--no-such", "command-agent: No such option '--no-such'."),
        ("--capacity=x", "command-agent: Invalid value for '--capacity': 'x' is not a valid integer."),
        ("--config=/nowhere", "command-agent: Invalid value for '--config': File '/nowhere' does not exist."),
        ("--allow-program=ls", "add --allow-exec"),
    ],
)
def test_mistakes_are_one_line(argument: str, message: str) -> None:
    outcome = CliRunner().invoke(command_agent.main, argument.split("|"))
    assert outcome.exit_code == ExitCode.USAGE
    assert message in outcome.output
    assert outcome.output.count("\n") == 1


def test_the_journal_is_kept_as_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    default = command_agent.build_agent(AgentSettings(agent_id="a")).journal
    assert default == JournalPolicy(tmp_path / "state" / "distributor" / "agents" / "a.journal")
    assert command_agent.build_agent(AgentSettings(agent_id="a", journal="off")).journal is None
    settings = AgentSettings(
        agent_id="a",
        journal=str(tmp_path / "j"),
        journal_bytes=2_000_000,
        journal_sync="disk",
        orphans="report",
        stop_grace=2.0,
    )
    assert command_agent.build_agent(settings).journal == JournalPolicy(
        tmp_path / "j", 2_000_000, JournalSync.DISK, Orphans.REPORT, 2.0
    )


def test_an_allowed_program_that_is_missing_is_one_line() -> None:
    outcome = CliRunner().invoke(command_agent.main, ["--allow-exec", "--allow-program=no-such-program"])
    assert outcome.exit_code == ExitCode.USAGE
    assert outcome.output == "command-agent: the allowed program 'no-such-program' is not on this host\n"


def test_compression_of_the_agent_comes_from_its_settings() -> None:
    settings = AgentSettings(agent_id="a1", compression="off", compression_threshold=5_000)
    assert command_agent.build_agent(settings).compression == Compression(enabled=False, threshold_bytes=5_000)
    assert command_agent.build_agent(AgentSettings(agent_id="a1")).compression == Compression()


def test_orphan_after_reaches_the_agent() -> None:
    assert command_agent.build_agent(AgentSettings(agent_id="a1", orphan_after=90)).orphan_after == 90
