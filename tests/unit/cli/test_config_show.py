"""`distributor config show`: every setting in force, where it comes from, and no secret."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distributor.cli import distributor
from distributor.settings.loading import GROUPS, is_secret, load_with_origins
from distributor.settings.server import ServerSettings


def shown(*arguments: str) -> Result:
    return CliRunner().invoke(distributor.main, ["config", "show", *arguments])


def test_every_setting_of_every_group_is_shown() -> None:
    outcome = shown()
    assert outcome.exit_code == 0
    tables = outcome.output.split("\n\n")
    for group, table in zip(GROUPS, tables, strict=True):
        assert table.startswith(f"[{group.table}]\n")
        for name in group.model_fields:
            assert f"\n{name} = " in table or f"\n# {name} is not set" in table


def test_settings_of_the_group_itself_come_first() -> None:
    names = [line.removeprefix("# ").split()[0] for line in shown("server").output.splitlines()[1:]]
    assert names[:2] == ["valkey_url", "listen"]
    assert names.index("reflection") < names.index("agent_connects")


def test_what_is_shown_is_a_settings_file_that_means_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_AGENT_LABELS", "site=hall 3,line=2")
    monkeypatch.setenv("DISTRIBUTOR_AGENT_ALLOWED_PROGRAMS", "a,b")
    monkeypatch.setenv("DISTRIBUTOR_BATCH_SIZE", "7")
    first = shown().output
    monkeypatch.undo()
    file = tmp_path / "shown.toml"
    file.write_text(first)
    assert tomllib.loads(first)["agent"]["labels"] == {"site": "hall 3", "line": "2"}
    assert shown(f"--config={file}").output == first


def test_where_a_setting_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[server]\nbatch_size = 7\nqueue_limit = 9\n")
    monkeypatch.setenv("DISTRIBUTOR_QUEUE_LIMIT", "8")
    lines = {line.split(" ")[0]: line for line in shown("server", "--origin", f"--config={file}").output.splitlines()}
    assert lines["batch_size"].split("  # ")[0].strip() == "batch_size = 7"
    assert lines["batch_size"].endswith(f"  # file {file}")
    assert lines["queue_limit"].startswith("queue_limit = 8 ")
    assert lines["queue_limit"].endswith("  # environment DISTRIBUTOR_QUEUE_LIMIT")
    assert lines["listen"].endswith("  # default")
    _, origins = load_with_origins(ServerSettings, file, {"listen": "-l"}, listen="127.0.0.1:1", batch_size=3)
    assert origins == {
        "batch_size": "flag --batch-size",
        "queue_limit": "environment DISTRIBUTOR_QUEUE_LIMIT",
        "listen": "flag -l",
    }


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a secret of more than thirty-two bytes"
    for name in ("TOKEN", "TOKEN_KEY", "BRIDGE_TOKEN_KEY", "BRIDGE_SERVER_TOKEN", "AGENT_TOKEN"):
        monkeypatch.setenv(f"DISTRIBUTOR_{name}", secret)
    monkeypatch.setenv("DISTRIBUTOR_VALKEY_URL", f"valkey://user:{secret}@host")
    for arguments in ((), ("--origin",)):
        output = shown(*arguments).output
        assert secret not in output
        for name in ("token", "token_key", "server_token", "valkey_url"):
            assert f"# {name} is set and secret" in output


def test_every_secret_is_known_to_be_one() -> None:
    secrets = {name for group in GROUPS for name, field in group.model_fields.items() if "Secret" in str(field)}
    assert secrets
    assert all(is_secret(name) for name in secrets)


def test_other_tables_and_faults_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = shown("servers")
    assert outcome.exit_code == 2
    assert "there is no table servers: choose from server, bridge, agent, client" in outcome.output
    monkeypatch.setenv("DISTRIBUTOR_BATCH_SIZE", "0")
    outcome = shown("server")
    assert outcome.exit_code != 0
    assert "DISTRIBUTOR_BATCH_SIZE must be" in outcome.output


def test_several_workers_come_with_what_they_mean_for_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "each worker counts" not in shown("server").output
    monkeypatch.setenv("DISTRIBUTOR_WORKERS", "4")
    lines = shown("server").output.splitlines()
    note = lines[lines.index("workers = 4") + 1]
    assert note == "# each worker counts agents, calls and callers for itself: limits apply to each"
