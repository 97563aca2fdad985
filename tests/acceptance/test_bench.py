"""`python -m bench` works and writes what it says. What it measures is no test: machines differ, and are busy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.support.source_tree import ROOT


def quick_run(scenario: str, folder: Path) -> Any:
    """What it writes."""
    output = folder / "figures.json"
    arguments = ("-m", "bench", "--quick", "--only", scenario, "--output", str(output))
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        # Whatever peers this machine has.
        env={**os.environ, "BENCH_PEERS": str(folder / "peers")},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert finished.returncode == 0, finished.stderr
    assert scenario in finished.stdout
    document = json.loads(output.read_text(encoding="utf-8"))
    # Figures without the allocator of their Valkey could not be compared.
    valkey = document["versions"]["valkey-server"]
    assert re.fullmatch(rf"\d+\.\d+\.\d+ with mimalloc-{re.escape(metadata.version('cmeel-mimalloc'))}", valkey)
    assert f"valkey-server {valkey}" in finished.stdout
    return document


def test_a_quick_run_writes_its_figures(tmp_path: Path) -> None:
    document = quick_run("throughput_batched", tmp_path)
    assert set(document) == {"date", "machine", "versions", "settings", "scenarios"}
    assert set(document["machine"]) == {"cpu", "cores", "memory", "kernel"}
    assert {"distributor", "python", "grpcio", "protobuf", "valkey", "valkey-server"} <= set(document["versions"])
    assert document["settings"]["batched_commands"] > 0
    assert list(document["scenarios"]) == ["throughput_batched"]
    scenario = document["scenarios"]["throughput_batched"]
    assert scenario["seconds"] > 0
    figures = {finding["name"]: finding for finding in scenario["findings"]}
    assert figures["median"]["value"] > 0
    assert figures["median"]["at_least"] == 10_000
    costs = [figures[f"{name} CPU"]["value"] for name in ("server", "valkey", "agents", "load")]
    assert figures["total CPU"]["value"] == pytest.approx(sum(costs))
    assert [figures[name]["at_most"] for name in ("total CPU", "server CPU", "valkey CPU")] == [125, 50, 55]
    assert len(scenario["details"]["rounds"]) == document["settings"]["rounds"]


def test_latency_is_compared_with_the_floor_of_its_path(tmp_path: Path) -> None:
    document = quick_run("latency_idle", tmp_path)
    figures = {finding["name"]: finding for finding in document["scenarios"]["latency_idle"]["findings"]}
    three, two = (figures[f"floor of the path, {count} exchanges with Valkey"]["value"] for count in (3, 2))
    assert three - two == pytest.approx(figures["floor: a Valkey function"]["value"])
    ratio = figures["p50 / floor, 3 exchanges"]
    assert ratio["value"] == pytest.approx(figures["p50"]["value"] / three)
    assert ratio["at_most"] == 1.9
    assert figures["p99 / floor, 3 exchanges"]["at_most"] == 3
    assert figures["server CPU"]["at_most"] == 1_000


def test_the_work_of_a_command_is_counted(tmp_path: Path) -> None:
    scenario = quick_run("latency_idle", tmp_path)["scenarios"]["latency_idle"]
    figures = {finding["name"]: finding["value"] for finding in scenario["findings"]}
    assert figures["functions in Valkey"] > figures["commands inside them"] > 0
    profile = scenario["details"]["profile"]
    assert all(function["round_trips_per_command"] > 0 for function in profile["functions"].values())
    calls = profile["valkey_commands"]["fcall"]["calls_per_command"]
    assert calls == figures["function calls"] >= 1
    wakeups = profile["server_wakeups_per_command"]
    assert figures["server wake-ups"] == pytest.approx(sum(wakeups.values()))
    assert figures["server wake-ups"] > 1


def test_all_agents_attach_again_after_a_storm(tmp_path: Path) -> None:
    document = quick_run("many_agents", tmp_path)
    scenario = document["scenarios"]["many_agents"]
    figures = {finding["name"]: finding["value"] for finding in scenario["findings"]}
    agents = document["settings"]["many_agents"]
    assert scenario["details"]["agents"] == agents
    seconds = figures["storm: until all are attached again"]
    assert figures["storm: reconnects"] == pytest.approx(agents / seconds)
    assert figures["server memory"] > 0


@pytest.mark.parametrize("growing", ["commands", "agents"])
def test_costs_are_compared_with_those_of_the_smallest_size(growing: str, tmp_path: Path) -> None:
    document = quick_run(f"growth_{growing}", tmp_path)
    scenario = document["scenarios"][f"growth_{growing}"]
    small, large = document["settings"][f"growth_{growing}"]
    figures = {finding["name"]: finding for finding in scenario["findings"]}
    ratio = figures[f"{large:,} / {small:,} {growing}: total CPU"]
    costs = {int(size): details["total_cpu"] for size, details in scenario["details"].items()}
    assert ratio["value"] == pytest.approx(costs[large] / costs[small])
    assert ratio["at_most"] == 1.25


def test_remembered_commands_are_real_ones(tmp_path: Path) -> None:
    document = quick_run("growth_commands", tmp_path)
    settings, details = document["settings"], document["scenarios"]["growth_commands"]["details"]
    # A warm-up round precedes the measured ones.
    measured = (settings["growth_rounds"] + 1) * settings["growth_batched"] + settings["growth_samples"]
    for size in settings["growth_commands"]:
        before, after = details[str(size)]["remembered"]
        assert before == size
        assert after == size + measured


def test_each_durability_is_compared_with_the_default(tmp_path: Path) -> None:
    document = quick_run("durability", tmp_path)
    scenario = document["scenarios"]["durability"]
    (delay_ms,) = document["settings"]["durability_disks"]
    costs = scenario["details"][f"+{delay_ms} ms"]
    figures = {finding["name"]: finding for finding in scenario["findings"]}
    for name, cost in costs.items():
        assert figures[f"disk +{delay_ms} ms: {name}"]["value"] == pytest.approx(cost["commands_per_second"])
    ratio = figures["disk / process, embedded"]
    rates = [costs[name]["commands_per_second"] for name in ("disk, embedded", "process, embedded")]
    assert ratio["value"] == pytest.approx(rates[0] / rates[1])
    assert ratio["at_least"] == 0.75
    # Three steps wait for the disk: queueing, the claim, and the end.
    assert costs["disk, embedded"]["p50"] > 2 * delay_ms


def test_a_hard_limit_of_open_files_below_the_agents_ends_the_run_before_it_starts(tmp_path: Path) -> None:
    limited = ("prlimit", "--nofile=1024:1024", sys.executable, "-m", "bench", "--only", "many_agents")
    finished = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 1
    assert "10,000 agents need 10,500 open files and the hard limit is 1,024" in finished.stderr


def test_memory_of_a_command_in_valkey_is_shown_by_key(tmp_path: Path) -> None:
    scenario = quick_run("memory_commands", tmp_path)["scenarios"]["memory_commands"]
    figures = {finding["name"]: finding for finding in scenario["findings"]}
    assert figures["Valkey memory"]["at_most"] == 1_536
    keys = scenario["details"]["bytes_of_own_keys"]
    assert {"command:status:<command_id>", "cmd:result:<command_id>"} <= set(keys)
    assert sum(keys.values()) == figures["Valkey memory, own keys of a command"]["value"]


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


def test_peers_that_are_not_installed_are_left_out_by_name(tmp_path: Path) -> None:
    scenario = quick_run("peers", tmp_path)["scenarios"]["peers"]
    names = [finding["name"] for finding in scenario["findings"]]
    assert "batched: distributor" in names
    assert not [name for name in names if " / " in name]
    assert set(scenario["details"]["left_out"]) == {"JetStream", "BullMQ", "taskiq"}
    notes = "\n".join(scenario["details"]["notes"])
    assert "taskiq is left out: taskiq is not installed: run scripts/setup_peers.sh" in notes


@pytest.mark.parametrize(
    ("scenario", "figure"),
    [("cancel_flood", "program stopped, beside 3 others: p99"), ("limits_loaded", "idle limit exceeded by: p99")],
)
def test_cancels_and_limits_are_measured_beside_floods(tmp_path: Path, scenario: str, figure: str) -> None:
    document = quick_run(scenario, tmp_path)
    figures = {finding["name"]: finding for finding in document["scenarios"][scenario]["findings"]}
    assert figures[figure]["at_most"] == 100
    assert document["settings"]["cancel_samples" if scenario == "cancel_flood" else "limit_samples"] > 0


def test_workers_are_measured_beside_one_process(tmp_path: Path) -> None:
    scenario = quick_run("workers", tmp_path)["scenarios"]["workers"]
    figures = {finding["name"]: finding["value"] for finding in scenario["findings"]}
    for name in ("1 process", "2 workers"):
        assert figures[name] > 0
        assert figures[f"{name}: total CPU"] > figures[f"{name}: server CPU"] > 0
    assert set(scenario["details"]) == {"1", "2"}
