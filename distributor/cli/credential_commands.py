"""The commands of `distributor` for certificates, enrolment tokens and revocations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from distributor.cli.shared_options import admin_server_options, config_option

_CONFIG: Final = config_option("the tables [server] and [client]")
_OUTPUT: Final = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form of the output."
)
_REASON: Final = click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
_SERVICE: Final = click.option(
    "--service", "service_name", default="", metavar="NAME", help="The name of a service, instead of AGENT."
)
_DIR: Final = click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("ca"), help="Folder of the CA."
)
_HOST: Final = click.option(
    "--host", "hosts", multiple=True, metavar="NAME|ADDRESS", help="Name or address of the server. Repeatable."
)
_DAYS: Final = click.option(
    "--days", type=click.IntRange(1, 3_650), default=365, show_default=True, metavar="N", help="Lifetime in days."
)


@click.command(name="enrol-token", short_help="Make a token with which an agent enrols.")
@click.argument("agents", metavar="AGENT|PATTERN")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the agents. Repeatable.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Agents to admit.")
@click.option("--expires-in", default="1h", show_default=True, metavar="TIME", help="Lifetime, such as 15m, 12h or 7d.")
@_OUTPUT
@admin_server_options
@_CONFIG
def enrol_token(agents: str, labels: tuple[str, ...], count: int, expires_in: str, output: str, **options: Any) -> None:
    """Print a token with which AGENT, or agents whose ids match PATTERN (such as 'web-*'), get certificates.

    A token for a pattern admits new agents only. One for AGENT also replaces its earlier certificates.
    """
    from distributor.cli.credentials import administer, make_token

    action = make_token(agents, labels, count, expires_in)
    click.get_current_context().exit(administer(options["config"], options["server"], output, action))


@click.command(short_help="Revoke the credentials of an agent or a service, or a token.")
@click.argument("agent", required=False, default="", metavar="[AGENT]")
@click.option("--token", "token_id", default="", metavar="ID", help="The id of a token (jti), instead of AGENT.")
@_SERVICE
@_REASON
@_OUTPUT
@admin_server_options
@_CONFIG
def revoke(agent: str, token_id: str, service_name: str, reason: str, output: str, **options: Any) -> None:
    """Revoke all certificates and tokens of AGENT and disconnect it, or those of a service, or one token.

    An agent that enrols again with a new token counts again. A service counts again with a certificate or token that
    is issued afterwards.
    """
    if [bool(agent), bool(token_id), bool(service_name)].count(True) != 1:
        raise click.UsageError("give AGENT, --token ID or --service NAME")
    from distributor.cli.credentials import Revoked, administer
    from distributor.cli.credentials import revoke as revocation

    action = revocation(Revoked(agent, token_id, service_name), reason)
    click.get_current_context().exit(administer(options["config"], options["server"], output, action))


@click.command(short_help="Undo the revocation of an agent or a service.")
@click.argument("agent", required=False, default="", metavar="[AGENT]")
@_SERVICE
@_OUTPUT
@admin_server_options
@_CONFIG
def restore(agent: str, service_name: str, output: str, **options: Any) -> None:
    """Let the certificates of AGENT count again, unless it has enrolled again; or all that a service was issued."""
    if bool(agent) == bool(service_name):
        raise click.UsageError("give either AGENT or --service NAME")
    from distributor.cli.credentials import administer
    from distributor.cli.credentials import restore as restoration

    action = restoration(agent, service_name)
    click.get_current_context().exit(administer(options["config"], options["server"], output, action))


@click.command(short_help="List what is revoked.")
@_OUTPUT
@admin_server_options
@_CONFIG
def revocations(output: str, **options: Any) -> None:
    """List revoked agents, services and tokens, newest first."""
    from distributor.cli.credentials import administer, list_revocations

    click.get_current_context().exit(administer(options["config"], options["server"], output, list_revocations))


@click.group(short_help="Make a CA, and certificates.")
def ca() -> None:
    """Make a CA in a folder, and the certificates that a small set-up needs. An outside CA works as well."""


@ca.command(short_help="Make a CA and a server's certificate.")
@_DIR
@_HOST
@_DAYS
def init(folder: Path, hosts: tuple[str, ...], days: int) -> None:
    """Make a CA, a certificate for a server at each --host, or on loopback, and a key that signs tokens.

    Prints the settings that use them, for a file that `--config` or DISTRIBUTOR_CONFIG names.
    """
    from distributor.cli.ca_files import make_ca

    click.echo(make_ca(folder.absolute(), hosts, days), nl=False)


@ca.group(short_help="Issue a certificate.")
def issue() -> None:
    """Issue a certificate with the CA in a folder. Agents get theirs with enrol-token and command-agent enrol."""


@issue.command(short_help="Issue a certificate for a server.")
@click.argument("name")
@_DIR
@_HOST
@_DAYS
def server(name: str, folder: Path, hosts: tuple[str, ...], days: int) -> None:
    """Write NAME.pem and NAME-key.pem for a server at each --host, or at NAME."""
    from distributor.cli.ca_files import issue_server

    click.echo(issue_server(folder.absolute(), name, hosts, days))


@issue.command(short_help="Issue a certificate for a service.")
@click.argument("name")
@click.option("--trust-domain", default="distributor", show_default=True, metavar="DOMAIN", help="As on the server.")
@_DIR
@_DAYS
def service(name: str, trust_domain: str, folder: Path, days: int) -> None:
    """Write NAME.pem and NAME-key.pem, by which mtls_listen knows the service NAME."""
    from distributor.cli.ca_files import issue_service

    click.echo(issue_service(folder.absolute(), name, trust_domain, days))


COMMANDS: Final = (ca, enrol_token, revoke, restore, revocations)
