"""`python -m bench` works and writes what it says. What it measures is no test: machines differ, and are busy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.source_tree import ROOT


def test_a_quick_run_writes_its_figures(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    arguments = ("-m", "bench", "--quick", "--only", "throughput_batched", "--output", str(output))
    finished = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert finished.returncode == 0, finished.stderr
    assert "throughput_batched" in finished.stdout
    document = json.loads(output.read_text(encoding="utf-8"))
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
