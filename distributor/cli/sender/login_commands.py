"""The click commands of `command-sender` about the caller itself: login, logout, whoami."""

from __future__ import annotations

import click

from distributor.cli.sender.commands import connection_options, output_option
from distributor.cli.sender.server_calls import ServerCalls


@click.command(short_help="Store the credentials for a server.")
@click.option("--no-verify", is_flag=True, help="Store them without asking the server who they are.")
@connection_options
@click.pass_obj
def login(connection: ServerCalls, no_verify: bool) -> int:
    """Store a server and the credentials for it as a context, and make that the current one.

    The token is read from a prompt, from standard input, or with --token-file from a file; - is standard input. No
    token is needed with a client certificate. Without --server, the credentials of the current context, or of that of
    --context, are replaced. With --server, --context names the context; it has the name of the host otherwise.

    \b
    command-sender login --server srv1.example.org:50051 --tls-ca ca.pem
    distributor token --subject ada --role operator | command-sender login --server srv1.example.org:50051
    """
    from distributor.cli.sender.login import log_in

    return log_in(connection, verify=not no_verify)


@click.command(short_help="Forget the credentials for a server.")
@connection_options
@click.pass_obj
def logout(connection: ServerCalls) -> int:
    """Remove the token from the current context, or from that of --context; its server is kept.

    The token itself stays valid until it expires or is revoked.
    """
    from distributor.cli.sender.login import log_out

    return log_out(connection)


@click.command(short_help="Show who the server says you are.")
@output_option
@connection_options
@click.pass_obj
def whoami(connection: ServerCalls, output: str) -> int:
    """Show who the server says you are: name, roles, grants, and until when."""
    from distributor.cli.sender.login import who_am_i

    return connection.run_as(output, who_am_i)
