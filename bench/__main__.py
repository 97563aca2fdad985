"""`python -m bench`: run scenarios, print a table, write a JSON file."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import grpc

from bench.cluster import Cluster, ServerVariant
from bench.event_loop import loop_factory
from bench.findings import BenchFailed, Outcome
from bench.report import Report
from bench.scale import FULL, QUICK, Scale
from bench.scenarios import SCENARIOS, Scenario
from distributor.app.signals import StopSignals
from distributor.errors import DistributorError
from distributor.tasks import first_of

SCENARIO_TIMEOUT_SECONDS = 900.0
TIDYING_SECONDS = 120.0
"""How long a scenario that is broken off may take to end its processes."""


@click.command()
@click.option("--only", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Run this one; repeatable.")
@click.option("--quick", is_flag=True, help="Small counts, to see that everything works; the figures mean little.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the JSON goes.")
@click.option("--save-baseline", is_flag=True, help="Also keep the figures in bench/baseline.json.")
@click.option(
    "--profile", type=click.Path(file_okay=False, path_type=Path), help="Profile the server into this folder."
)
@click.option("--without-uvloop", is_flag=True, help="Run the server on asyncio's own event loop.")
def main(
    names: tuple[str, ...],
    quick: bool,
    output: Path | None,
    save_baseline: bool,
    profile: Path | None,
    without_uvloop: bool,
) -> None:
    """Measure a server, a Valkey, agents and load of its own on loopback.

    Exits with 0 once everything is measured, also where a target is missed, and with 1 where something failed.
    """
    report = Report(QUICK if quick else FULL, ServerVariant(profile, without_uvloop))
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            finished = runner.run(_measure_unless_stopped(names or tuple(SCENARIOS), report))
    except (BenchFailed, DistributorError, TimeoutError) as error:
        click.echo(f"bench: {error or 'a scenario took too long'}", err=True)
        sys.exit(1)
    if not finished:
        sys.exit(130)
    report.print_table()
    click.echo(f"\nwritten to {report.write(output, save_baseline)}")


async def _measure_unless_stopped(names: Sequence[str], report: Report) -> bool:
    """Measure; False where a signal came first. Either way everything that was started has ended."""
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
    """In one line; of several tasks that failed together, the first says why."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else str(error)


async def _outcome(name: str, scenario: Scenario, scale: Scale, variant: ServerVariant) -> Outcome:
    """Each scenario gets a server and a Valkey of its own, so that none sees what another left behind."""
    # A short name: the socket of Valkey lies in it, and paths of sockets are bounded.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        async with Cluster(Path(folder), variant.named(name)) as cluster:
            findings, details = await scenario(cluster, scale)
            return Outcome(name, findings, details, await cluster.valkey_version())


if __name__ == "__main__":
    main()
