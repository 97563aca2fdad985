from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distributor.errors import ConfigurationError
from distributor.settings import load_agent_settings, load_client_settings, load_server_settings

Write = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> Write:
    """Writes a settings file and says where it is."""

    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_precedence_rises_from_defaults_to_overrides(toml: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml("[server]\nbatch_size = 5\ntime_limit = 60\nqueue_limit = 7\n")
    monkeypatch.setenv("DISTRIBUTOR_BATCH_SIZE", "6")
    monkeypatch.setenv("DISTRIBUTOR_TIME_LIMIT", "61.5")
    settings = load_server_settings(path, time_limit=62.0, queue_ttl=None)
    assert settings.queue_ttl == 86_400.0
    assert settings.queue_limit == 7
    assert settings.batch_size == 6
    assert settings.time_limit == 62.0


def test_the_file_may_be_named_by_the_environment(toml: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_CONFIG", str(toml('[client]\nserver = "example.org:443"\n')))
    assert load_client_settings().server == "example.org:443"


def test_each_group_has_its_table_and_its_prefix(toml: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml('[server]\nlog_level = "debug"\n[agent]\nlog_level = "warning"\nlabels = { zone = "a" }\n')
    monkeypatch.setenv("DISTRIBUTOR_SERVER", "a:1")
    monkeypatch.setenv("DISTRIBUTOR_AGENT_SERVER", "b:2")
    assert load_server_settings(path).log_level == "debug"
    assert load_agent_settings(path).log_level == "warning"
    assert load_agent_settings(path).labels == {"zone": "a"}
    assert load_client_settings(path).server == "a:1"
    assert load_agent_settings(path).server == "b:2"


def test_lists_and_tables_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_AGENT_ALLOWED_PROGRAMS", "ls, /usr/bin/df")
    monkeypatch.setenv("DISTRIBUTOR_AGENT_LABELS", "zone=a, rack = 7=b")
    settings = load_agent_settings()
    assert settings.allowed_programs == ("ls", "/usr/bin/df")
    assert settings.labels == {"zone": "a", "rack": "7=b"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DISTRIBUTOR_BATCHSIZE", "unknown setting DISTRIBUTOR_BATCHSIZE in the environment; did you mean "
         "DISTRIBUTOR_BATCH_SIZE?"),
        ("DISTRIBUTOR_AGENT_CAPACTY", "did you mean DISTRIBUTOR_AGENT_CAPACITY?"),
        ("DISTRIBUTOR_ZZZ", "unknown setting DISTRIBUTOR_ZZZ in the environment"),
    ],
)  # fmt: skip
def test_an_unknown_variable(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    for load in (load_server_settings, load_agent_settings, load_client_settings):
        with pytest.raises(ConfigurationError) as caught:
            load()
        assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nbatchsize = 1\n", "unknown setting batchsize in [server] of {path}; did you mean batch_size?"),
        ("[agent]\nnope_nope = 1\n", "unknown setting nope_nope in [agent] of {path}"),
        ("[sever]\nbatch_size = 1\n", "unknown setting sever in {path}; did you mean server?"),
        ("batch_size = 1\n", "unknown setting batch_size in {path}"),
        ("server = 1\n", "server in {path} must be a table, [server]"),
        ("[server]\nbatch_size = 99\n", "batch_size in [server] of {path} must be less than or equal to 20, not 99"),
        ("[server\n", "the settings file {path} is not valid TOML: "),
    ],
)
def test_a_bad_file(text: str, message: str, toml: Write) -> None:
    path = toml(text)
    with pytest.raises(ConfigurationError) as caught:
        load_server_settings(path)
    assert str(caught.value).startswith(message.format(path=path))
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="cannot read the settings file .*none.toml: No such file or directory"
    ):
        load_server_settings(tmp_path / "none.toml")


def test_every_problem_is_told_and_where_it_stands(toml: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml("[server]\nqueue_limit = 0\n")
    monkeypatch.setenv("DISTRIBUTOR_TIME_LIMIT", "long")
    with pytest.raises(ConfigurationError) as caught:
        load_server_settings(path, log_level="loud")
    assert sorted(str(caught.value).split("; ")) == [
        "--log-level must be 'debug', 'info', 'warning' or 'error', not 'loud'",
        "DISTRIBUTOR_TIME_LIMIT must be a valid number, not 'long'",
        f"queue_limit in [server] of {path} must be greater than or equal to 1, not 0",
    ]


def test_an_override_that_does_not_exist() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting batch_sise; did you mean batch_size"):
        load_server_settings(batch_sise=3)
