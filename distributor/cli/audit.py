"""`distributor audit`: lists, exports and verifies the audit trail, and makes its keys.

Only arguments; the bodies are imported when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from distributor.cli.one_line import OneLineGroup
from distributor.cli.shared_options import Option, Program, admin_server_options, config_option

_OUTCOMES: Final = ("success", "attempt", "refused", "failed")
_CONFIG: Final = config_option("the tables [server] and [client]")
_OUTPUT: Final = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form of the output."
)


def _filter_options(command: Program) -> Program:
    options: list[Option] = [
        click.option("--since", default="", metavar="TIME", help="Not before: a time, a date, or an age such as 2h."),
        click.option("--until", default="", metavar="TIME", help="Before this time."),
        click.option("--actor", default="", metavar="NAME", help="Who acted, or for whom."),
        click.option("--agent", "agent_id", default="", metavar="ID", help="About this agent."),
        click.option("--command", "command_id", default="", metavar="ID", help="About this command."),
        click.option(
            "--type",
            "types",
            multiple=True,
            metavar="TYPE",
            help="Such as command.queued, or agent. for all.",
        ),
        click.option("--outcome", "outcomes", multiple=True, type=click.Choice(_OUTCOMES), help="Repeatable."),
        admin_server_options,
        _CONFIG,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=OneLineGroup, prefix="distributor audit", short_help="Read and verify the audit trail.")
def audit() -> None:
    """Read and verify the audit trail, for administrators. Reading it is recorded in it."""


@audit.command("list")
@_filter_options
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Newest entries shown.")
@click.option("-f", "--follow", is_flag=True, help="Show new entries as they come, until Ctrl-C.")
@_OUTPUT
def list_entries(limit: int, follow: bool, output: str, **options: Any) -> None:
    """Show the newest entries."""
    from distributor.cli import audit_bodies
    from distributor.cli.sender.screen import Screen

    wanted = audit_bodies.filter_of(options)
    if follow:
        screen = Screen("jsonl" if output == "json" else output)
        audit_bodies.administer(options, lambda client: audit_bodies.follow(client, screen, wanted))
    screen = Screen(output)
    audit_bodies.administer(options, lambda client: audit_bodies.show_list(client, screen, wanted, limit))


@audit.command()
@_filter_options
@click.option("--after", "after_seq", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="Only later rows.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["ocsf", "own"]),
    default="ocsf",
    show_default=True,
    help="OCSF API Activity (class 6003), or the fields of `audit list -o json`.",
)
def export(after_seq: int, form: str, **options: Any) -> None:
    """Write all entries as JSON lines, oldest first."""
    from distributor.cli import audit_bodies
    from distributor.cli.sender.screen import Screen

    wanted, screen = audit_bodies.filter_of(options), Screen("jsonl")
    audit_bodies.administer(
        options, lambda client: audit_bodies.export(client, screen, wanted, after_seq, form == "ocsf")
    )


@audit.command()
@click.option(
    "--checkpoint",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with checkpoints that somebody else kept, such as the output of command-agent checkpoint. Repeatable.",
)
@_OUTPUT
@admin_server_options
@_CONFIG
def verify(files: tuple[Path, ...], output: str, **options: Any) -> None:
    """Verify everything that is kept: integrity, completeness, order and clock.

    Exits with 0 if all four hold, with 1 if not.
    """
    from distributor.cli import audit_bodies
    from distributor.cli.sender.screen import Screen

    checkpoints, screen = audit_bodies.read_checkpoints(files), Screen(output)
    audit_bodies.administer(options, lambda client: audit_bodies.verify(client, screen, checkpoints))


@audit.command("new-key")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--key-id", metavar="ID", help="Its name in the rows. [default: today's date]")
def new_key(file: Path, key_id: str | None) -> None:
    """Make a key file, or add a new key to one, which servers then use for new rows.

    Servers read a changed file within seconds. Copy it to all servers on the same Valkey before you add a key to one of
    them again, and keep the older keys: old rows are verified with them.
    """
    from datetime import UTC, datetime

    from distributor.app.audit_key_file import add_key

    key_id = key_id or datetime.now(UTC).strftime("%Y-%m-%d")
    add_key(file, key_id)
    click.echo(f"{file}: the audit key {key_id} was added")
