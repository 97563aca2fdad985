"""Arguments that are understood. Those that are not are in test_usage."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from distributor.cli.sender import arguments
from distributor.cli.sender.input_lines import read_lines


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30", 30), ("30s", 30), ("1.5s", 1.5), ("5m", 300), ("2h", 7_200), ("30d", 2_592_000)],
)
def test_durations(text: str, seconds: float) -> None:
    assert arguments.parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "priority"), [("0", 0), ("100", 100), ("low", 25), ("normal", 50), ("high", 75)])
def test_priorities(text: str, priority: int) -> None:
    assert arguments.parse_priority(text) == priority


@pytest.mark.parametrize("text", ["1970-01-01T00:01:00Z", "1970-01-01T01:01:00+01:00", "1970-01-01 00:01:00.000Z"])
def test_instants(text: str) -> None:
    assert arguments.parse_instant(text) == 60_000


def test_an_instant_may_be_how_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 10_000.0)

    assert arguments.parse_instant("2h") == 2_800_000


@pytest.mark.parametrize(
    ("text", "pair"),
    [("a=1", ("a", "1")), ("a=", ("a", "")), ("a=b=c,d=e", ("a", "b=c,d=e")), ("a= x ", ("a", " x "))],
)
def test_the_value_of_a_param_stays_as_it_is(text: str, pair: tuple[str, str]) -> None:
    assert arguments.parse_pair(text) == pair


def test_params_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"n": 1}')

    assert arguments.parse_json_object(f"@{file}") == {"n": 1}
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="is not UTF-8"):
        arguments.parse_json_object(f"@{file}")


def test_params_come_together() -> None:
    assert arguments.merged_params([("a", "1")], [{"b": 2}, {"c": [3]}]) == {"a": "1", "b": 2, "c": [3]}


def test_a_byte_order_mark_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = b'\xef\xbb\xbf{"a": 1}\n'
    (tmp_path / "params.json").write_bytes(marked)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(marked), encoding="utf-8"))

    assert arguments.parse_json_object(f"@{tmp_path / 'params.json'}") == {"a": 1}
    assert arguments.parse_json_object("-") == {"a": 1}
    assert arguments.parse_json_object(marked.decode()) == {"a": 1}
    lines = read_lines(io.BytesIO(b'\xef\xbb\xbf{"agentId": "a1"}\n'))
    assert list(lines) == [(1, {"agent_id": "a1"})]
