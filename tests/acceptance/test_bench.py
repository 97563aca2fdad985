"""`python -m bench` works and writes what it says. What it measures is no test: machines differ, and are busy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.source_tree import ROOT


def quick_run(scenario: str, folder: Path) -> Any:
    """What it writes."""
    output = folder / "figures.json"
    arguments = ("-m", "bench", "--quick", "--only", scenario, "--output", str(output))
    finished = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert finished.returncode == 0, finished.stderr
    assert scenario in finished.stdout
    return json.loads(output.read_text(encoding="utf-8"))


def test_a_quick_run_writes_its_figures(tmp_path: Path) -> None:
    document = quick_run("throughput_batched", tmp_path)
    assert set(document) == {"date", "machine", "versions", "settings", "scenarios"}
    assert set(document["machine"]) == {"cpu", "cores", "memory", "kernel"}
    assert {"distributor", "python", "grpcio", "protobuf", "valkey", "valkey-server"} <= set(document["versions"])
    assert document["settings"]["batched_commands"] > 0
    assert list(document["scenarios"]) == ["throughput_batched"]
    scenario = document["scenarios"]["throughput_batched"]
    figures = {finding["name"]: finding for finding in scenario["findings"]}
    assert figures["median"]["value"] > 0
    assert figures["median"]["at_least"] == 10_000
    assert {"best", "server CPU", "valkey CPU", "agents CPU", "load CPU"} <= set(figures)
    assert len(scenario["details"]["rounds"]) == document["settings"]["rounds"]


def test_dashboards_are_told_of_everything_while_it_is_timed(tmp_path: Path) -> None:
    """The scenario itself fails where a dashboard misses a line or an ending, or is told twice."""
    document = quick_run("dashboards", tmp_path)
    findings = document["scenarios"]["dashboards"]["findings"]
    figures = {finding["name"]: finding for finding in findings}
    for count in document["settings"]["dashboards"]:
        for told in ("output", "status"):
            slowest = figures[f"{told} to {count}: slowest dashboard, p99"]
            assert slowest["value"] >= figures[f"{told} to {count}: p50"]["value"] > 0
            assert slowest["at_most"] == 50
