"""`distributor conformance`: test an agent in any language against the protocol."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from distributor.cli.conformance_tls import served_tls
from distributor.cli.exit_codes import ExitCode
from distributor.cli.one_line import one_line
from distributor.cli.sender.columns import format_table
from distributor.conformance.catalogue import SCENARIOS
from distributor.conformance.scenario import Scenario
from distributor.conformance.scenario_run import KitOptions, run_scenarios
from distributor.conformance.score import Score, Verdict
from distributor.errors import ConfigurationError
from distributor.settings import is_loopback, split_address
from distributor.wire.listening import check_free

PROTOCOL_PAGE: Final = "docs/protocol.md"


class Listening(NamedTuple):
    """Where to play a server, "host:port", and whether that may be beyond loopback in plain text.

    With `tls`, it is played over TLS, and that folder gets what the agent needs.
    """

    address: str
    insecure: bool = False
    tls: Path | None = None


def play_scenarios(
    listening: Listening, program: Sequence[str], only: Sequence[str], form: str, options: KitOptions
) -> None:
    """Play scenarios against an agent and print how it did. Raises Exit with ExitCode.FAILED if it failed one."""
    listen = listening.address
    host, port = _checked_address(listening, program)
    chosen = _chosen(only)
    tls = served_tls(listening.tls, host) if listening.tls is not None else None
    options = KitOptions(host, port, program, options.patience, options.jobs, tls)
    if not program:
        over = f" over TLS (CA {tls.files['{ca}']}, token {tls.files['{token}']})" if tls is not None else ""
        click.echo(f"Listening on {listen}{over}. Start the agent now; see docs/agents.md.", err=True)
    scores = asyncio.run(run_scenarios(chosen, options, _show if form == "table" else _show_nothing))
    click.echo(_json(scores) if form == "json" else _summary(scores))
    if any(score.verdict is Verdict.FAILED for score in scores):
        raise click.exceptions.Exit(ExitCode.FAILED)


def scenario_table() -> str:
    """All scenarios, with the rule that each tests."""
    return format_table(
        {
            "scenario": [one.name for one in SCENARIOS],
            "rule": [one.rule for one in SCENARIOS],
            "expected": [one.expected for one in SCENARIOS],
        }
    )


def _checked_address(listening: Listening, program: Sequence[str]) -> tuple[str, int]:
    listen = listening.address
    try:
        host, port = split_address(listen)
    except ValueError as error:
        raise ConfigurationError(f"--listen {error}", field="--listen") from error
    if not is_loopback(host) and not listening.insecure and listening.tls is None:
        raise ConfigurationError(
            f"the server played on {listen} has neither TLS nor authentication: listen on loopback, add --tls, or add "
            "--insecure",
            field="--insecure",
            reason="EXPOSED",
        )
    if port:
        check_free(listen, "--listen")
    elif not program:
        raise ConfigurationError("without the agent's command line, --listen needs a port to which you let it connect")
    return host, port


def _chosen(only: Sequence[str]) -> list[Scenario]:
    unknown = set(only) - {one.name for one in SCENARIOS}
    if unknown:
        raise ConfigurationError(f"there is no scenario {', '.join(sorted(unknown))}; --list shows them")
    return [one for one in SCENARIOS if not only or one.name in only]


def _show(score: Score) -> None:
    colour = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.SKIPPED: "yellow"}[score.verdict]
    verdict = click.style(f"{score.verdict:8}", fg=colour)
    click.echo(f"{verdict}{score.scenario.name} ({PROTOCOL_PAGE}, {score.scenario.rule})")
    if score.verdict is not Verdict.PASSED:
        click.echo(f"        expected: {one_line(score.expected)}")
        click.echo(f"        came: {one_line(score.came)}")


def _show_nothing(score: Score) -> None:
    pass


def _summary(scores: Sequence[Score]) -> str:
    counts = Counter(score.verdict for score in scores)
    return f"{len(scores)} scenario{'s' * (len(scores) != 1)}: " + ", ".join(
        f"{counts[verdict]} {verdict}" for verdict in Verdict
    )


def _json(scores: Sequence[Score]) -> str:
    return json.dumps(
        [
            {
                "scenario": score.scenario.name,
                "rule": score.scenario.rule,
                "verdict": score.verdict,
                "expected": score.expected,
                "came": score.came,
                "seconds": round(score.seconds, 3),
            }
            for score in scores
        ],
        indent=1,
        ensure_ascii=False,
    )
