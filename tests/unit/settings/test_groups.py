from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distributor.errors import ConfigurationError
from distributor.settings import (
    AgentSettings,
    ServerSettings,
    load_agent_settings,
    load_server_settings,
    split_address,
)
from distributor.settings.loading import GROUPS
from distributor.settings.values import MAX_PAYLOAD_BYTES, SettingsGroup
from distributor.wire.transport import MAX_MESSAGE_BYTES


def test_the_defaults_are_valid_and_loopback() -> None:
    settings = load_server_settings()
    assert settings == ServerSettings()
    assert split_address(settings.listen)[0] == split_address(settings.http_listen)[0] == "127.0.0.1"
    assert not load_agent_settings().allow_exec


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        ServerSettings().batch_size = 3  # type: ignore[misc]


def test_a_constructor_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTRIBUTOR_BATCH_SIZE", "3")
    assert ServerSettings().batch_size == 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"start_within": 5.0},
            "start_within (5 s) must be more than heartbeat_interval (10 s), or agents refuse every command as stale",
        ),
        (
            {"ack_deadline": 15.0},
            "ack_deadline (15 s) must be more than start_within (15 s), "
            "or a command could start after delivery was given up",
        ),
        (
            {"offline_after": 9.5},
            "offline_after (9.5 s) must be more than heartbeat_interval (10 s), or every agent goes offline",
        ),
        ({"durability": "replicated"}, "durability replicated needs a valkey_url: the embedded Valkey has no replicas"),
        (
            {"verified_labels": ["site"]},
            "verified_labels needs authentication: set client_ca, or a key that verifies tokens",
        ),
        ({"retry_first": 61.0}, "retry_most (60 s) must not be less than retry_first (61 s)"),
        (
            {"queue_full": "drop", "queue_limit": 10_001},
            "queue_limit (10,001) must be at most 10,000 if queue_full is drop, or the search for a "
            "command to drop blocks Valkey",
        ),
        ({"result_retention": 59.0}, "--result-retention must be greater than or equal to 60, not 59.0"),
        ({"batch_size": 21}, "--batch-size must be less than or equal to 20, not 21"),
        ({"batch_size": "many"}, "--batch-size must be a valid integer, not 'many'"),
        ({"time_limit": 0.0}, "--time-limit must be greater than 0, not 0.0"),
        ({"time_limit": float("inf")}, "--time-limit must be a finite number, not inf"),
        ({"time_limit": float("nan")}, "--time-limit must be a finite number, not nan"),
        ({"queue_full": "block"}, "--queue-full must be 'refuse' or 'drop', not 'block'"),
        ({"reflection": "maybe"}, "--reflection must be a valid boolean, not 'maybe'"),
        ({"max_params_bytes": 10**9}, "--max-params-bytes must be less than or equal to 393216, not 1000000000"),
    ],
)
def test_what_is_out_of_bounds_is_said_in_a_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_server_settings(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "address", ["50051", "localhost", "localhost:", ":50051", "a:65536", "a:-1", "a:b", "::1:5", ""]
)
def test_a_bad_address(address: str) -> None:
    with pytest.raises(ConfigurationError, match="--listen must be host:port with a port of 0 to 65535"):
        load_server_settings(listen=address)


def test_addresses() -> None:
    assert split_address("0.0.0.0:0") == ("0.0.0.0", 0)
    assert split_address("[::1]:50051") == ("::1", 50_051)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://hunter2@host", "must begin with one of valkey://"),
        ("host:6379", "must begin with one of valkey://"),
        ("valkey://", "must name a host"),
        ("unix://", "must name a host"),
        ("valkey://:hunter2@host:port", "must have a port of 0 to 65535"),
    ],
)
def test_a_bad_valkey_url_is_refused_and_not_repeated(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--valkey-url {message}") as caught:
        load_server_settings(valkey_url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "valkey://h", "redis://:p@h:6379/0", "rediss://h:1", "unix:///a%20b/c.sock", "unix://:p@/a/c.sock"]
)
def test_a_good_valkey_url(url: str) -> None:
    assert load_server_settings(valkey_url=url).valkey_url == url


@pytest.mark.parametrize("agent_id", ["", "a b", "ä", "x" * 129, "a/b"])
def test_a_bad_agent_id(agent_id: str) -> None:
    with pytest.raises(ConfigurationError, match="--agent-id must be 1 to 128 of A-Z a-z 0-9"):
        load_agent_settings(agent_id=agent_id)


def test_bad_labels() -> None:
    with pytest.raises(ConfigurationError, match="--labels must be name=value pairs separated by commas, not 'zone'"):
        load_agent_settings(labels="zone")
    with pytest.raises(ConfigurationError, match="--labels must have each name once, not 'a=b, a=c'"):
        load_agent_settings(labels="a=b, a=c")


@pytest.mark.parametrize(
    ("hostname", "agent_id"),
    [("edge-7.example.org", "edge-7.example.org"), ("mein rechner ä", "mein-rechner-"), ("", "agent")],
)
def test_an_agent_is_named_after_its_host(hostname: str, agent_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    assert AgentSettings().agent_id == agent_id


def test_state_is_kept_where_the_user_keeps_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert ServerSettings().data_dir == Path("/state/distributor")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert ServerSettings().data_dir == Path("/home/x/.local/state/distributor")
    assert ServerSettings(data_dir=Path("~/data")).data_dir == Path("/home/x/data")


def test_twenty_payloads_fit_into_one_message() -> None:
    assert 20 * MAX_PAYLOAD_BYTES <= MAX_MESSAGE_BYTES * 0.95


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_is_described_and_durations_have_a_unit(group: type[SettingsGroup]) -> None:
    for name, field in group.model_fields.items():
        assert field.description, name
        unit = "Seconds" if not name.endswith("_rate") else "per second"
        assert field.annotation is not float or unit in field.description, name
