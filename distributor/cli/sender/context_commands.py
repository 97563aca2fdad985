"""The click commands of `command-sender context`."""

from __future__ import annotations

import click

from distributor.cli.sender.commands import output_option


@click.group(short_help="List, choose and delete contexts.")
def context() -> None:
    """List, choose and delete contexts: servers with the credentials of command-sender login."""


@context.command(name="list")
@output_option
def list_contexts(output: str) -> int:
    """List contexts, and when their credentials expire. * marks the current one."""
    from distributor.cli.sender.context_views import show_contexts

    return show_contexts(output)


@context.command()
@click.argument("name", required=False)
@output_option
def show(name: str | None, output: str) -> int:
    """Show a context, or the current one, without its token."""
    from distributor.cli.sender.context_views import show_context

    return show_context(name, output)


@context.command()
@click.argument("name")
def use(name: str) -> int:
    """Make a context the current one."""
    from distributor.settings.contexts import change_contexts

    used = change_contexts(lambda contexts: contexts.using(name)).by_name[name]
    click.echo(f"Context {name} for {used.server} is the current one.")
    return 0


@context.command()
@click.argument("name")
def delete(name: str) -> int:
    """Delete a context with its credentials. The token stays valid until it expires or is revoked."""
    from distributor.settings.contexts import change_contexts

    change_contexts(lambda contexts: contexts.without(name))
    click.echo(f"Deleted the context {name}.")
    return 0
