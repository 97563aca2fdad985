"""`command-agent enrol`, and the settings with which an enrolled agent connects."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from distributor.agent import Agent, ClientCredentials
from distributor.agent.enrolment import EnrolmentOrder, enrol
from distributor.agent.identity_files import IdentityFiles
from distributor.environment import identity_folder
from distributor.errors import ConfigurationError
from distributor.observability.logging import get_logger
from distributor.settings import AgentSettings

logger = get_logger()


def token_from(token: str | None, file: Path | None) -> str:
    """The enrolment token: as given, from a file, or from standard input. Raises ConfigurationError."""
    if token and file:
        raise ConfigurationError("--token and --token-file are both given; give only one", field="token")
    if token:
        return token
    try:
        text = sys.stdin.read() if file is None or str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the enrolment token from {file or 'standard input'}") from error
    return text.strip()


def enrol_agent(settings: AgentSettings, token: str, replace: bool) -> str:
    """Enrol the agent of these settings; return a message for its operator."""
    files = IdentityFiles(identity_folder(settings.agent_id))
    credentials = ClientCredentials.of(settings)
    order = EnrolmentOrder(settings.agent_id, settings.server, token, credentials, replace)
    facts = asyncio.run(enrol(order, files))
    return (
        f"agent {facts.agent_id} is enrolled; its key and certificate are in {files.folder}\n"
        f"run command-agent on this host to connect to {facts.servers}"
    )


def use_enrolment(agent: Agent, settings: AgentSettings) -> None:
    """Connect with the certificate of an enrolled agent, unless the settings have other credentials."""
    files = IdentityFiles(identity_folder(settings.agent_id))
    own = settings.tls_cert or settings.token_file or settings.token.get_secret_value()
    if own or not files.exists:
        return
    facts = files.facts()
    if "server" not in settings.model_fields_set:
        agent.server = facts.servers
    differing = sorted(name for name, value in settings.labels.items() if facts.labels.get(name, value) != value)
    if differing:
        logger.warning("labels of the enrolment overrule those of the settings", labels=differing)
    # As on the server.
    agent.labels = {**settings.labels, **facts.labels}
    agent.credentials = ClientCredentials(
        ca=files.trusted or settings.tls_ca, certificate=files.credential, key=files.credential, tls=True
    )
    agent.identity = files
