"""`python -m bench`: run scenarios, print a table, write a JSON file."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import grpc

from bench.cluster import Cluster, ServerVariant
from bench.event_loop import loop_factory
from bench.findings import BenchFailed, Outcome
from bench.open_files import permit_open_files
from bench.report import Report
from bench.scale import FULL, QUICK, Scale
from bench.scenarios import SCENARIOS, WITH_MANY_AGENTS, Scenario
from distributor.app.signals import StopSignals
from distributor.errors import DistributorError
from distributor.tasks import first_of

SCENARIO_TIMEOUT_SECONDS = 1_200.0
TIDYING_SECONDS = 120.0
"""Time for an interrupted scenario to end its processes."""


@click.command()
@click.option(
    "--only", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Run only this scenario; repeatable."
)
@click.option("--quick", is_flag=True, help="Use small counts for a smoke test; the figures mean little.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File for the JSON report.")
@click.option("--save-baseline", is_flag=True, help="Also save the figures as bench/baseline.json.")
@click.option(
    "--profile",
    "profile_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Profile the server into this folder.",
)
@click.option("--soak-seconds", type=click.FloatRange(min=1), help="Length of the scenario soak. [default: 600]")
@click.option("--without-uvloop", is_flag=True, help="Run the server on asyncio's event loop.")
def main(
    names: tuple[str, ...],
    quick: bool,
    output: Path | None,
    save_baseline: bool,
    soak_seconds: float | None,
    **variant: Any,
) -> None:
    """Start a server, Valkey, agents and load on loopback, and measure them.

    Exits with 0 once everything is measured, even if a target is missed, and with 1 if something failed.
    """
    scale = QUICK if quick else FULL
    if soak_seconds is not None:
        scale = replace(scale, soak_seconds=soak_seconds)
    report = Report(scale, ServerVariant(**variant))
    names = names or tuple(SCENARIOS)
    try:
        permit_open_files(scale.many_agents if WITH_MANY_AGENTS.intersection(names) else scale.idle_agents)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            finished = runner.run(_measure_unless_stopped(names, report))
    except (BenchFailed, DistributorError, TimeoutError) as error:
        click.echo(f"bench: {error or 'a scenario took too long'}", err=True)
        sys.exit(1)
    if not finished:
        sys.exit(130)
    report.print_table()
    click.echo(f"\nwritten to {report.write(output, save_baseline)}")


async def _measure_unless_stopped(names: Sequence[str], report: Report) -> bool:
    """Measure; return False if a signal came first. Either way, every started process has ended."""
    with StopSignals() as signals:
        return await first_of(signals.wait(), _measure(names, report), again_seconds=TIDYING_SECONDS) == 1


async def _measure(names: Sequence[str], report: Report) -> None:
    for name in names:
        click.echo(f"{name} …", err=True)
        try:
            async with asyncio.timeout(SCENARIO_TIMEOUT_SECONDS):
                report.add(await _outcome(name, SCENARIOS[name], report.scale, report.variant))
        except (ExceptionGroup, grpc.aio.AioRpcError) as error:
            raise BenchFailed(f"{name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the reason in one line, from the first of several failed tasks."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else str(error)


async def _outcome(name: str, scenario: Scenario, scale: Scale, variant: ServerVariant) -> Outcome:
    """Run a scenario on a fresh server and Valkey, so that no scenario sees data of another."""
    begun = time.perf_counter()
    # Short, as it holds Valkey's socket and socket paths are limited.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        async with Cluster(Path(folder), variant.named(name)) as cluster:
            findings, details = await scenario(cluster, scale)
            return Outcome(name, findings, details, time.perf_counter() - begun, await cluster.valkey_version())


if __name__ == "__main__":
    main()
