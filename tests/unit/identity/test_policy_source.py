from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from distributor.errors import ConfigurationError
from distributor.identity import policy_source
from distributor.identity.policy_source import PolicySource
from distributor.settings.policy_file import NO_POLICY, Policy, load_policy


def write(path: Path, text: str) -> None:
    """Replace the file as a careful editor does, so that its identity changes with its content."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


async def test_a_change_takes_effect(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    write(path, "[types.A]\n")
    source = PolicySource(path)
    digests: list[str] = []
    source.on_change = lambda policy: digests.append(policy.digest)
    assert not await source.run_once()
    write(path, "[types.B]\n")
    assert await source.run_once()
    assert list(source.current.types.types) == ["B"]
    assert digests == [source.current.digest]


async def test_a_faulty_change_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "policy.toml"
    write(path, "[types.A]\n")
    source = PolicySource(path)
    write(path, "[types.B]\nrolls = 1\n")
    with caplog.at_level(logging.INFO):
        assert not await source.run_once()
        assert not await source.run_once()
    assert list(source.current.types.types) == ["A"]
    assert sum("cannot be used" in record.getMessage() for record in caplog.records) == 1
    write(path, "[types.C]\n")
    assert await source.run_once()
    assert list(source.current.types.types) == ["C"]


async def test_a_change_while_it_is_read_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.toml"
    write(path, "[types.A]\n")
    source = PolicySource(path)
    write(path, "[types.B]\n")
    loads = load_policy

    def overtaken(path: Path) -> Policy:
        loaded = loads(path)
        write(path, "[types.C]\n")
        return loaded

    monkeypatch.setattr(policy_source, "load_policy", overtaken)
    assert await source.run_once()
    monkeypatch.undo()
    assert await source.run_once()
    assert list(source.current.types.types) == ["C"]


async def test_a_file_that_goes_away_leaves_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    write(path, "[types.A]\n")
    source = PolicySource(path)
    path.unlink()
    assert not await source.run_once()
    assert list(source.current.types.types) == ["A"]


async def test_a_changed_schema_file_takes_effect(tmp_path: Path) -> None:
    schema = tmp_path / "a.json"
    write(schema, '{"required": ["x"]}')
    write(tmp_path / "policy.toml", '[types.A]\nschema = "a.json"\n')
    source = PolicySource(tmp_path / "policy.toml")
    before = source.current.types.types["A"].schema
    write(schema, '{"required": ["yy"]}')
    assert await source.run_once()
    assert source.current.types.types["A"].schema is not before


def test_a_faulty_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    write(tmp_path / "policy.toml", "types = 1\n")
    with pytest.raises(ConfigurationError, match="must be tables"):
        PolicySource(tmp_path / "policy.toml")


async def test_without_a_file_nothing_is_followed() -> None:
    source = PolicySource()
    assert source.current is NO_POLICY
    assert not await source.run_once()
