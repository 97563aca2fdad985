"""`distributor valkey-acl`: prints the ACL of the Valkey user of a server or a bridge."""

from __future__ import annotations

import click

from distributor.store.access_rules import Program, access_line


def print_acl(user: str, program: Program) -> None:
    """Print one line. Raises UsageError for a user name that Valkey does not accept."""
    if not user or any(character.isspace() for character in user):
        raise click.UsageError("--user must be a name without spaces")
    click.echo(access_line(user, program))
