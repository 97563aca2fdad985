"""What an agent that has enrolled on this host runs with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distributor.agent import IdentityFiles
from distributor.agent.identity_files import EnrolmentFacts
from distributor.cli.command_agent import build_agent
from distributor.cli.enrol import token_from
from distributor.environment import identity_folder
from distributor.errors import ConfigurationError
from distributor.settings import load_agent_settings
from distributor.settings.agent import hostname_as_agent_id
from tests.support.certificates import CertificateMaker
from tests.support.own_logs import own_logs

PEER = CertificateMaker().agent("press-7")


def enrolled(agent_id: str) -> IdentityFiles:
    files = IdentityFiles(identity_folder(agent_id))
    facts = EnrolmentFacts(agent_id, "a.example:50052", "a.example:50051", "distributor", {"site": "lab", "line": "1"})
    files.create(PEER.key_pem, PEER.certificate_pem, PEER.ca_pem, facts)
    return files


def built(**settings: Any) -> Any:
    return build_agent(load_agent_settings(journal="off", **settings))


def test_an_enrolled_agent_needs_no_settings() -> None:
    files = enrolled("press-7")
    agent = built()
    assert (agent.agent_id, agent.server) == ("press-7", "a.example:50052")
    assert agent.labels == {"site": "lab", "line": "1"}
    assert (agent.credentials.certificate, agent.credentials.key) == (files.credential, files.credential)
    assert agent.credentials.ca == files.server_ca
    assert agent.identity is not None


def test_settings_come_first() -> None:
    enrolled("press-7")
    agent = built(server="b.example:1")
    assert agent.server == "b.example:1"


def test_labels_of_the_enrolment_overrule_those_of_the_settings() -> None:
    enrolled("press-7")
    with own_logs() as logs:
        agent = built(labels={"site": "lab", "line": "2", "rack": "7"})
    assert [line["labels"] for line in logs if line["log_level"] == "warning"] == [["line"]]
    assert agent.labels == {"site": "lab", "line": "1", "rack": "7"}


def test_credentials_in_the_settings_replace_those_of_the_enrolment(tmp_path: Path) -> None:
    enrolled("press-7")
    token = tmp_path / "token"
    token.write_text("token")
    agent = built(token_file=token)
    assert agent.identity is None
    assert agent.credentials.certificate is None


def test_with_several_agents_on_a_host_the_id_must_be_given() -> None:
    enrolled("press-7")
    enrolled("press-8")
    assert built().agent_id == hostname_as_agent_id()
    assert built(agent_id="press-8").identity is not None


def test_the_token_comes_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" enrol.x \n")
    assert token_from(None, file) == "enrol.x"
    assert token_from("enrol.y", None) == "enrol.y"
    with pytest.raises(ConfigurationError, match="only one"):
        token_from("enrol.y", file)
