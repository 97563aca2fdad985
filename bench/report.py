"""Prints and saves the results of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.cluster import ServerVariant
from bench.findings import Finding, Outcome
from bench.machine import machine, versions
from bench.scale import Scale

FOLDER = Path(__file__).parent
BASELINE = FOLDER / "baseline.json"
WIDTH = 120


class Report:
    """Collects outcomes, prints them as a table and writes them as JSON."""

    def __init__(self, scale: Scale, variant: ServerVariant) -> None:
        self.scale = scale
        self.variant = variant
        self._begun = datetime.now(UTC)
        self._outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a scenario."""
        self._outcomes.append(outcome)

    def print_table(self) -> None:
        """Print target, figure, verdict and baseline for each finding."""
        earlier = _baseline()
        table = Table("scenario", "figure", "target", "measured", "", "baseline", box=None, pad_edge=False)
        for column in (2, 3, 5):
            table.columns[column].justify = "right"
        for outcome in self._outcomes:
            name = outcome.scenario
            for finding in outcome.findings:
                before = earlier.get((outcome.scenario, finding.name))
                table.add_row(name, *_cells(finding), "" if before is None else _shown(before))
                name = ""
        table.caption, table.caption_justify = f"valkey-server {self._valkey_version()}", "left"
        Console(width=WIDTH).print(table)
        for outcome in self._outcomes:
            if notes := outcome.details.get("notes"):
                print(f"\n{outcome.scenario}", *notes, sep="\n")

    def write(self, output: Path | None, save_baseline: bool) -> Path:
        """Write the JSON file and return its path."""
        path = output or FOLDER / "results" / f"{self._begun:%Y-%m-%dT%H%M%SZ}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._document(with_details=True), indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
        if save_baseline:
            text = json.dumps(self._document(with_details=False), indent=1, ensure_ascii=False) + "\n"
            BASELINE.write_text(text, encoding="utf-8")
        return path

    def _valkey_version(self) -> str:
        return ", ".join(sorted({outcome.valkey_version for outcome in self._outcomes}))

    def _document(self, *, with_details: bool) -> dict[str, Any]:
        return {
            "date": f"{self._begun:%Y-%m-%dT%H:%M:%SZ}",
            "machine": machine(),
            "versions": {**versions(), "valkey-server": self._valkey_version()},
            "settings": {
                **asdict(self.scale),
                "valkey": "append-only file, written before each answer and fsynced every second, Unix socket",
                "server": "defaults, one process",
                "server_on_uvloop": versions()["uvloop"] != "none" and not self.variant.without_uvloop,
                "server_profiled": self.variant.profile_folder is not None,
            },
            "scenarios": {
                outcome.scenario: {
                    "findings": [{**asdict(finding), "ok": finding.ok} for finding in outcome.findings],
                    **({"seconds": outcome.seconds, "details": outcome.details} if with_details else {}),
                }
                for outcome in self._outcomes
            },
        }


def _baseline() -> dict[tuple[str, str], float]:
    if not BASELINE.exists():
        return {}
    scenarios = json.loads(BASELINE.read_text(encoding="utf-8"))["scenarios"]
    return {
        (scenario, finding["name"]): finding["value"]
        for scenario, outcome in scenarios.items()
        for finding in outcome["findings"]
    }


def _cells(finding: Finding) -> tuple[str, ...]:
    return finding.name, _target(finding), f"{_shown(finding.value)} {finding.unit}", _verdict(finding)


def _target(finding: Finding) -> str:
    if finding.at_least is not None:
        return f"≥ {_shown(finding.at_least)}"
    if finding.at_most is not None:
        return f"≤ {_shown(finding.at_most)}"
    return ""


def _verdict(finding: Finding) -> str:
    return {True: "[green]ok[/]", False: "[red]missed[/]", None: ""}[finding.ok]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
