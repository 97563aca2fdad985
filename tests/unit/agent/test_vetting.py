from __future__ import annotations

from pathlib import Path

import pytest

from distributor.agent.vetting import SignaturePolicy, Vetting
from distributor.identity.policy_source import PolicySource
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import assignment
from tests.support.signed_commands import new_signer, requiring, signed, trusted

SIGNER = new_signer()
POLICY = """\
unlisted = "refuse"

[types.WORK]
schema = { required = ["path"], properties = { path = { pattern = "^/data/" }, password = { type = "string" } } }
agents = ["agent*"]
labels = { zone = "a" }
secret = ["/password"]

[types.ELSEWHERE]
agents = ["db-*"]

[types.LABELLED]
labels = { zone = "b" }
"""


@pytest.fixture
def policy(tmp_path: Path) -> PolicySource:
    (tmp_path / "policy.toml").write_text(POLICY)
    return PolicySource(tmp_path / "policy.toml")


def code(vetting: Vetting, one: gateway.Assignment) -> str:
    refusal = vetting.verdict(one.command).refusal
    if refusal is None:
        return ""
    assert refusal.code == gateway.REFUSAL_CODE_UNSUPPORTED
    return refusal.reason.code


def requirer(*types: str) -> Vetting:
    return Vetting("agent123", {}, None, requiring(SIGNER, *types))


def test_a_signed_command_is_accepted() -> None:
    verdict = requirer().verdict(signed(SIGNER, "a").command)
    assert verdict.refusal is None
    assert verdict.signature is not None
    assert verdict.signature.command_id == "a"


def test_an_unsigned_command_is_refused_where_a_signature_is_required() -> None:
    assert code(requirer(), assignment("a", "WORK")) == "signature_missing"
    assert code(requirer("EXEC"), assignment("a", "EXEC")) == "signature_missing"
    assert code(requirer("EXEC"), assignment("a", "WORK")) == ""


@pytest.mark.parametrize("control", ["PING", "STOP"])
def test_control_commands_need_no_signature(control: str) -> None:
    assert code(requirer(), assignment("a", control)) == ""


def test_a_wrong_signature_is_refused_even_where_none_is_required() -> None:
    vetting = Vetting("agent123", {}, None, SignaturePolicy(trusted(SIGNER), ()))
    one = signed(SIGNER, "a", path="/x")
    one.command.params["path"] = "/y"
    assert code(vetting, assignment("a", "WORK")) == ""
    assert code(vetting, one) == "signature_invalid"


def test_a_command_signed_for_another_agent_is_refused() -> None:
    one = signed(SIGNER, "a")
    vetting = Vetting("agent124", {}, None, requiring(SIGNER))
    assert code(vetting, one) == "signature_invalid"
    one.command.agent_id = "agent124"
    assert code(vetting, one) == "signature_invalid"


def test_an_expired_signature_is_refused() -> None:
    assert code(requirer(), signed(SIGNER, "a", validity=-1.0)) == "signature_expired"


def test_limits_and_marks_lie_outside_the_signature() -> None:
    one = signed(SIGNER, "a")
    one.command.priority, one.command.max_runs = 99, 3
    one.command.time_limit.seconds = 1
    one.command.secret_params.append("/x")
    assert code(requirer(), one) == ""


def test_the_hosts_policy_is_checked(policy: PolicySource) -> None:
    vetting = Vetting("agent123", {"zone": "a"}, policy)
    assert code(vetting, assignment("a", "WORK", path="/data/x")) == ""
    assert code(vetting, assignment("a", "WORK")) == "params_not_valid"
    assert code(vetting, assignment("a", "WORK", path="/etc")) == "params_not_valid"
    assert code(vetting, assignment("a", "ELSEWHERE")) == "agent_not_permitted"
    assert code(vetting, assignment("a", "LABELLED")) == "agent_not_permitted"
    assert code(vetting, assignment("a", "OTHER")) == "type_not_registered"
    assert code(vetting, assignment("a", "STOP")) == ""


def test_no_refusal_quotes_a_secret(policy: PolicySource) -> None:
    vetting = Vetting("agent123", {"zone": "a"}, policy)
    refusal = vetting.verdict(assignment("a", "WORK", path="/data/x", password=["SECRET"]).command).refusal
    assert refusal is not None
    assert "SECRET" not in refusal.reason.message


async def test_each_command_of_a_message_has_its_own_verdict() -> None:
    """A hostile server may repeat an id: the verdict on one content must not count for another."""
    good = signed(SIGNER, "a", path="/x")
    altered = gateway.Assignment()
    altered.CopyFrom(good)
    altered.command.params["path"] = "/y"
    verdicts = await requirer().verdicts([altered, good])
    assert [verdict.refusal.reason.code if verdict.refusal else "" for verdict in verdicts] == ["signature_invalid", ""]
