"""`distributor`: the server, the bridge, tokens, the conformance kit, and everything in one process for development.

Imports what a command needs only to run it, so that `--version`, `--help` and usage errors do not wait for gRPC and
pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from distributor import __version__
from distributor.cli.audit import audit
from distributor.cli.credential_commands import COMMANDS
from distributor.cli.one_line import OneLineCommand, OneLineGroup
from distributor.cli.shared_options import (
    LOG_FORMAT,
    LOG_LEVEL,
    Option,
    Program,
    admin_server_options,
    config_option,
    file_option,
    flags,
    given,
)

if TYPE_CHECKING:
    from distributor.settings import BridgeSettings, ServerSettings
    from distributor.store.access_rules import Program as ValkeyProgram

NAME: Final = "distributor"
_CONFIG: Final = config_option("a table for each program, such as [server]")
_BRIDGE_LISTEN: Final = click.option(
    "--bridge-listen", metavar="HOST:PORT", help="Address of the page and for dashboards."
)


def _server_options(command: Program) -> Program:
    """Options for the most common settings; the file or the environment sets the others."""
    options: list[Option] = [
        click.option("--listen", metavar="HOST:PORT", help="gRPC address for agents and callers."),
        click.option("--http-listen", metavar="HOST:PORT", help="HTTP address for /metrics, /healthz and /readyz."),
        click.option("--valkey-url", metavar="URL", help="The Valkey to use. [default: start an embedded one]"),
        click.option("--data-dir", type=click.Path(path_type=Path), help="Data directory of the embedded Valkey."),
        file_option("--tls-cert", "Certificate of the gRPC address; turns TLS on."),
        file_option("--tls-key", "Key of that certificate."),
        file_option("--client-ca", "Authorities of client certificates."),
        click.option("--mtls-listen", metavar="HOST:PORT", help="gRPC address that requires client certificates."),
        click.option("--http-tls", is_flag=True, default=None, help="Serve the HTTP address over TLS too."),
        click.option("--insecure", is_flag=True, default=None, help="Permit what is unsafe beyond loopback."),
        click.option("--reflection", is_flag=True, default=None, help="Enable gRPC reflection."),
        LOG_FORMAT,
        LOG_LEVEL,
        _CONFIG,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=OneLineGroup, prefix=NAME, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def main() -> None:
    """Queue commands for agents behind NAT, follow them live, and keep their results."""


@main.command("signing-key")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File for the private key.")
def signing_key(out: Path) -> None:
    """Make a key to sign commands with.

    Its public key, for the agents that are to trust it, is written beside it.
    """
    from distributor.cli.signing_key import make_signing_key, public_path

    key_id = make_signing_key(out)
    click.echo(f"{out}: private key {key_id}, for command-sender --sign-key")
    click.echo(f"{public_path(out)}: its public key, for the agents' trusted_signers")


for _command in COMMANDS:
    main.add_command(_command)


@main.command()
@click.option("--workers", type=int, metavar="N", help="Processes that share the ports. [default: 1]")
@_server_options
def serve(config: Path | None, **options: Any) -> None:
    """Run a server until SIGTERM or Ctrl-C, then drain it. A second signal ends it at once."""
    from distributor.settings import load_server_settings

    settings = load_server_settings(config, flags(), **given(options))
    if settings.workers > 1:
        from distributor.app.worker_supervisor import supervise_until_stopped

        _run(settings, supervise_until_stopped(settings))
    else:
        from distributor.app.server_process import serve_until_stopped

        _run(settings, serve_until_stopped(settings))


# Also a program of its own: cmd/websocket_bridge.py.
@main.command(cls=OneLineCommand, prefix=NAME, short_help="Serve the page, and a WebSocket for dashboards.")
@click.option("--listen", metavar="HOST:PORT", help="Address for dashboards.")
@file_option("--tls-cert", "Certificate of that address; turns TLS on.")
@file_option("--tls-key", "Key of that certificate.")
@click.option("--insecure", is_flag=True, default=None, help="Permit plain text beyond loopback.")
@click.option("--server", metavar="HOST:PORT[,…]", help="The server or servers to call.")
@file_option("--server-ca", "Authorities of the server's certificate. [default: those of the system]")
@file_option("--server-cert", "Client certificate for the server.")
@file_option("--server-key", "Key of the client certificate.")
@file_option("--server-token-file", "File with the bridge's own token for the server.")
@click.option("--valkey-url", metavar="URL", help="The server's Valkey.")
@click.option(
    "--token-key-file",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File with a key that signs tokens. Repeatable.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="FILE",
    help="PEM file with a key that verifies tokens. Repeatable.",
)
@click.option(
    "--allow-origin",
    "allowed_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Accept pages of this origin. Repeatable.",
)
@LOG_FORMAT
@LOG_LEVEL
@_CONFIG
def bridge(config: Path | None, **options: Any) -> None:
    """Serve the page, and a WebSocket for dashboards, until SIGTERM or Ctrl-C. See docs/operations.md."""
    from distributor.settings import load_bridge_settings

    settings = load_bridge_settings(config, flags(), **given(options))
    from distributor.app.bridge_process import bridge_until_stopped

    _run(settings, bridge_until_stopped(settings))


@main.command()
@click.option("--subject", metavar="NAME", help="Name of the user of the token.")
@click.option("--service", metavar="NAME", help="Name of a service, instead of a user.")
@click.option("--agent", metavar="AGENT", help="Id of an agent, instead of a user: the token is for its stream alone.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["viewer", "operator", "admin", "delegate"]),
    help="A role. Repeatable. A bridge is a delegate. [default: viewer]",
)
@click.option("--on", "agents", multiple=True, metavar="GLOB", help="Only agents such as 'web-*'. Repeatable.")
@click.option("--on-label", "labels", multiple=True, metavar="NAME=VALUE", help="Only agents with it. Repeatable.")
@click.option("--type", "types", multiple=True, metavar="GLOB", help="Only commands of such types. Repeatable.")
@click.option("--label", "own_labels", multiple=True, metavar="NAME=VALUE", help="A label of the agent. Repeatable.")
@click.option("--grants", default="", metavar="JSON", help="Further grants, as in a token: a list of objects.")
@click.option(
    "--expires-in", "lifetime", default="12h", show_default=True, metavar="TIME", help="Such as 90s, 15m, 12h or 7d."
)
@click.option("--key-id", default="", metavar="ID", help="Sign with this key. [default: the first]")
@click.option(
    "--token-key-file",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File with a key that signs tokens. Repeatable.",
)
@_CONFIG
def token(
    config: Path | None,
    token_key_file: tuple[Path, ...],
    subject: str | None,
    service: str | None,
    agent: str | None,
    **options: Any,
) -> None:
    """Print a token, signed with the key of a server or bridge. Nothing else is printed."""
    from distributor.cli.token import TokenRequest, token_for, token_settings
    from distributor.identity.caller import CallerKind

    kinds = {CallerKind.USER: subject, CallerKind.SERVICE: service, CallerKind.AGENT: agent}
    named = [(kind, name) for kind, name in kinds.items() if name is not None]
    if len(named) != 1:
        raise click.UsageError("Give one of --subject, --service and --agent.")
    ((kind, name),) = named
    click.echo(token_for(token_settings(config, token_key_file), TokenRequest(name, kind=kind, **options)))


_ADMIN_CONFIG: Final = config_option("the tables [server] and [client]")
_OUTPUT: Final = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form of the output."
)
_ON: Final = click.option(
    "--on",
    "selectors",
    multiple=True,
    metavar="SELECTOR",
    help="An agent id, which may have *, such as 'web-*', or label=value. Repeatable.",
)


@main.command(short_help="Stop agents in an emergency.")
@click.option("--all", "everything", is_flag=True, help="Stop every agent, also those that connect later.")
@_ON
@click.option("--reason", default="", metavar="TEXT", help="Why, shown wherever the stop is.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=600),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for agents that do not answer.",
)
@_OUTPUT
@admin_server_options
@_ADMIN_CONFIG
def stop(
    everything: bool, selectors: tuple[str, ...], reason: str, timeout: float, output: str, **options: Any
) -> None:
    """End everything that runs on agents, and queue and start nothing, until `distributor resume`.

    Exits with 0 if every agent has confirmed that nothing runs there, with 3 if some have not answered in time, else
    with 1.
    """
    from distributor.cli.stops import checked_scope
    from distributor.cli.stops import stop as stop_agents

    scope = checked_scope(everything, selectors)
    _administer(output, options, lambda client, screen: stop_agents(client, screen, scope, reason, timeout))


@main.command(short_help="End emergency stops.")
@click.argument("stop_id", required=False, default="", metavar="[ID]")
@click.option("--all", "everything", is_flag=True, help="End every stop.")
@_ON
@_OUTPUT
@admin_server_options
@_ADMIN_CONFIG
def resume(stop_id: str, everything: bool, selectors: tuple[str, ...], output: str, **options: Any) -> None:
    """End the stop with this ID, those with exactly these selectors, or all; what waits in the queues starts."""
    from distributor.cli.stops import resume as resume_agents

    if (bool(stop_id), everything, bool(selectors)).count(True) != 1:
        raise click.UsageError("give one of ID, --all and --on")
    _administer(output, options, lambda client, screen: resume_agents(client, screen, stop_id, selectors, everything))


@main.command(short_help="List the emergency stops in force.")
@_OUTPUT
@admin_server_options
@_ADMIN_CONFIG
def stops(output: str, **options: Any) -> None:
    """List the emergency stops in force, oldest first."""
    from distributor.cli.stops import list_stops

    _administer(output, options, list_stops)


def _administer(output: str, options: dict[str, Any], action: Callable[[Any, Any], Coroutine[Any, Any, int]]) -> None:
    """Call `action` with a client for emergencies and a screen, and exit with its code."""
    import asyncio

    from distributor.cli.admin_calls import admin_client
    from distributor.cli.sender.screen import Screen
    from distributor.client.emergency_client import EmergencyClient

    async def call() -> int:
        async with admin_client(EmergencyClient, options["config"], options["server"]) as client:
            return int(await action(client, Screen(output)))

    click.get_current_context().exit(asyncio.run(call()))


main.add_command(audit)


@main.command(short_help="Run a server, a bridge and one agent on this machine.")
@_BRIDGE_LISTEN
@_server_options
def dev(config: Path | None, bridge_listen: str | None, **options: Any) -> None:
    """Run a server, a bridge and one agent that may EXEC on this machine, to try things out."""
    settings, bridge_settings = _both_settings(config, bridge_listen, options)
    from distributor.cli.dev import develop

    _run(settings, develop(settings, bridge_settings))


@main.command(short_help="Run dev and one command through it.")
@click.option("--once", is_flag=True, help="Exit when the command has ended.")
@_BRIDGE_LISTEN
@_server_options
def demo(config: Path | None, once: bool, bridge_listen: str | None, **options: Any) -> None:
    """Run dev and one command through it, showing its live output, result and receipts."""
    settings, bridge_settings = _both_settings(config, bridge_listen, options)
    from distributor.cli.demo import demonstrate

    _run(settings, demonstrate(settings, bridge_settings, once=once))


@main.group()
def config() -> None:
    """Look at settings."""


@config.command("show", short_help="Print every setting.")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--origin", is_flag=True, help="Say where each value comes from: default, file or environment.")
@_CONFIG
def config_show(tables: tuple[str, ...], origin: bool, config: Path | None) -> None:
    """Print every setting as it is in force, as a settings file; keys and passwords are left out.

    TABLE is server, bridge, agent or client. [default: all]
    """
    from distributor.cli.config_show import show_settings

    show_settings(tables, config, with_origin=origin)


@main.command("valkey-acl", short_help="Print the ACL of the user for Valkey.")
@click.option("--user", default="distributor", show_default=True, metavar="NAME", help="Name of the user.")
@click.option(
    "--for",
    "program",
    type=click.Choice(["server", "bridge"]),
    default="server",
    show_default=True,
    help="A server reads and writes, a bridge only reads.",
)
def valkey_acl(user: str, program: ValkeyProgram) -> None:
    """Print the line for Valkey's ACL file that permits what a server or a bridge does, and nothing else.

    Put the password in place of PASSWORD. After ACL SETUSER, the words from the name on do the same.
    """
    from distributor.cli.valkey_acl import print_acl

    print_acl(user, program)


@main.command(short_help="Test an agent in any language against the protocol.")
@click.option(
    "--listen",
    default="127.0.0.1:50051",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to play a server. With AGENT and port 0, each scenario has a port of its own.",
)
@click.option("--insecure", is_flag=True, help="Permit an address beyond loopback, in plain text.")
@click.option(
    "--tls",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Play the server over TLS, and write the CA and the agent's token into this folder.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Play only this scenario. Repeatable.")
@click.option("--list", "listed", is_flag=True, help="List the scenarios and exit.")
@click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", help="Form of the scores."
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the agent each time.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    metavar="N",
    help="Scenarios played at once, with AGENT and port 0.",
)
@click.argument("agent", nargs=-1, metavar="[-- AGENT [ARGUMENT]...]")
def conformance(listen: str, only: tuple[str, ...], listed: bool, form: str, **options: Any) -> None:
    """Play a server against an agent, and score how it keeps to docs/protocol.md.

    AGENT is the command line of the agent, which is then started for each scenario: {address} in it stands for the
    address to connect to, {journal} for a path where it may keep its journal, and with --tls {ca} and {token} for the
    files with the CA to trust and the token to send. Without AGENT, start the agent yourself.

    The agent must handle PING and the type CONFORMANCE, which docs/agents.md describes.
    """
    from distributor.cli.conformance import Listening, play_scenarios, scenario_table
    from distributor.conformance.scenario_run import KitOptions

    if listed:
        click.echo(scenario_table())
    else:
        listening = Listening(listen, options.pop("insecure"), options.pop("tls"))
        play_scenarios(listening, options.pop("agent"), only, form, KitOptions(**options))


def _both_settings(
    config: Path | None, bridge_listen: str | None, options: dict[str, Any]
) -> tuple[ServerSettings, BridgeSettings]:
    from distributor.settings import load_bridge_settings, load_server_settings

    return (
        load_server_settings(config, flags(), **{"log_level": "warning", **given(options)}),
        load_bridge_settings(config, {"listen": "--bridge-listen"}, listen=bridge_listen),
    )


def _run(settings: ServerSettings | BridgeSettings, program: Coroutine[Any, Any, None]) -> None:
    import asyncio

    from distributor.app.event_loop import loop_factory
    from distributor.observability.logging import configure_logging
    from distributor.processes.open_files import raise_open_files_limit

    raise_open_files_limit()
    configure_logging(settings.log_format, settings.log_level)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(program)
