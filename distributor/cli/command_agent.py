"""`command-agent`: the reference agent, with PING, STOP and, if the operator allows it, EXEC.

Imports the agent only to run it, so that `--version`, `--help` and usage errors do not wait for gRPC and pydantic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from distributor import __version__
from distributor.cli.label_options import label_pairs
from distributor.cli.one_line import OneLineGroup
from distributor.cli.shared_options import (
    LOG_FORMAT,
    LOG_LEVEL,
    caller_tls_options,
    config_option,
    flags,
    given,
    with_options,
)
from distributor.errors import ConfigurationError

if TYPE_CHECKING:
    from distributor.agent import Agent
    from distributor.settings import AgentSettings

NAME: Final = "command-agent"


@click.group(
    cls=OneLineGroup,
    prefix=NAME,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--agent", "--agent-id", "agent_id", metavar="ID", help="Id of this agent. [default: the host name]")
@click.option("--server", metavar="HOST:PORT[,…]", help="The server or servers to connect to.")
@click.option("--capacity", type=int, metavar="N", help="Slots of the commands to run at once; most use one.")
@click.option("--allow-exec", is_flag=True, default=None, help="Allow EXEC to start programs on this host.")
@click.option(
    "--allow-program",
    "allowed_programs",
    multiple=True,
    metavar="NAME|PATH",
    help="Allow EXEC to start only the programs given. Repeatable.",
)
@click.option("--journal", metavar="PATH", help="File with the durable record of commands, or off for none.")
@click.option("--orphans", metavar="end|report", help="What to do with processes that outlived an agent that crashed.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of this agent. Repeatable.")
@click.option(
    "--orphan-after", type=float, metavar="SECONDS", help="Stop all work once no server has answered for so long."
)
@click.option("--policy-file", metavar="FILE", help="TOML file with the command types that this host permits.")
@click.option(
    "--trusted-signer",
    "trusted_signers",
    multiple=True,
    metavar="FILE[:TYPE…]",
    help="Accept commands signed with this public key. Repeatable.",
)
@click.option(
    "--require-signature",
    multiple=True,
    metavar="TYPE",
    help="Start such commands only if signed; * for all. Repeatable.",
)
@with_options(*caller_tls_options())
@LOG_FORMAT
@LOG_LEVEL
@config_option("an [agent] table")
@click.version_option(__version__, prog_name=NAME)
@click.pass_context
def main(context: click.Context, /, config: Path | None, **options: Any) -> None:
    """Connect to a server and run the commands it sends, until a STOP command, SIGTERM or Ctrl-C.

    The first signal gives running commands up to 30 seconds to finish, the second cancels them, and the third ends
    the agent at once.
    """
    if context.invoked_subcommand is not None:
        return
    from distributor.observability.logging import configure_logging
    from distributor.settings import load_agent_settings

    settings = load_agent_settings(config, flags(), **_labelled(given(options)))
    configure_logging(settings.log_format, settings.log_level)
    build_agent(settings).run()


@main.command(short_help="Get a certificate for the agent of this host.")
@click.option("--server", metavar="HOST:PORT[,…]", help="The server or servers at which to enrol.")
@click.option("--agent", "--agent-id", "agent_id", metavar="ID", help="Id of the agent. [default: the host name]")
@click.option("--token", metavar="TOKEN", help="The enrolment token; others on this host may see it.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    help="File with the enrolment token, or - for standard input, which is the default.",
)
@click.option("--tls-ca", type=click.Path(path_type=Path), help="PEM file with the CA of the server.")
@click.option("--replace", is_flag=True, help="Take the place of a live agent with this id.")
@config_option("an [agent] table")
def enrol(config: Path | None, token: str | None, token_file: Path | None, replace: bool, **options: Any) -> None:
    """Make a key on this host, and exchange a token of `distributor enrol-token` for the agent's certificate.

    Afterwards, command-agent connects without further settings, and renews its certificate by itself.
    """
    from distributor.cli.enrol import enrol_agent, token_from
    from distributor.settings import load_agent_settings

    settings = load_agent_settings(config, flags(), **given(options))
    click.echo(enrol_agent(settings, token_from(token, token_file), replace))


@main.command(short_help="Print the checkpoints of audit trails that this agent remembers.")
@click.option("--agent", "--agent-id", "agent_id", metavar="ID", help="Id of the agent. [default: the host name]")
@click.option("--journal", metavar="PATH", help="File with the agent's durable record.")
@config_option("an [agent] table")
def checkpoint(config: Path | None, **options: Any) -> None:
    """Print the checkpoints of audit trails that the agent remembers, also while it runs, the newest last.

    An administrator compares one with the trail by `distributor audit verify --checkpoint FILE`.
    """
    from distributor.cli.remembered_checkpoints import remembered_checkpoints
    from distributor.settings import load_agent_settings

    settings = load_agent_settings(config, flags(), **given(options))
    if not settings.journal_path:
        raise ConfigurationError("an agent without a journal remembers no checkpoints", field="journal")
    click.echo("\n".join(remembered_checkpoints(settings.journal_path)), nl=False)


def build_agent(settings: AgentSettings) -> Agent:
    """Build the agent from `settings`. Raises ConfigurationError if they conflict or do not fit the host."""
    from distributor.agent import (
        Agent,
        ClientCredentials,
        Compression,
        ExecPolicy,
        JournalPolicy,
        JournalSync,
        Orphans,
        SignaturePolicy,
        SignerFiles,
    )
    from distributor.cli.enrol import use_enrolment

    if settings.allowed_programs and not settings.allow_exec:
        raise ConfigurationError("allowed programs have no effect without allow_exec; add --allow-exec")
    policy = ExecPolicy(settings.allowed_programs, settings.stop_grace) if settings.allow_exec else None
    agent = Agent(
        settings.agent_id,
        server=settings.server,
        capacity=settings.capacity,
        labels=settings.labels,
        exec_policy=policy,
    )
    agent.orphan_after = settings.orphan_after
    path = settings.journal_path
    agent.journal = None
    if path:
        sync, orphans = JournalSync(settings.journal_sync), Orphans(settings.orphans)
        agent.journal = JournalPolicy(path, settings.journal_bytes, sync, orphans, settings.stop_grace)
    agent.compression = Compression(settings.compression == "gzip", settings.compression_threshold)
    agent.credentials = ClientCredentials.of(settings)
    use_enrolment(agent, settings)
    agent.policy_file = settings.policy_file
    if settings.require_signature and not settings.trusted_signers:
        raise ConfigurationError("require_signature needs trusted_signers, or no such command could start")
    if settings.trusted_signers:
        agent.signatures = SignaturePolicy(SignerFiles(settings.trusted_signers), settings.require_signature)
    return agent


def _labelled(options: dict[str, Any]) -> dict[str, Any]:
    if "labels" not in options:
        return options
    return options | {"labels": label_pairs(options["labels"])}


if __name__ == "__main__":
    main()
