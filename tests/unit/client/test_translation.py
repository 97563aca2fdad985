from __future__ import annotations

import pytest

from distributor.client import CommandRequest, CommandSigner
from distributor.client.translation import command_of, wire_request
from distributor.errors import InvalidArgument
from distributor.identity.signatures import SignatureRefused
from distributor.v1 import command_pb2
from distributor.wire.signed_command import signed_content
from tests.support.signed_commands import new_signer, trusted


def test_params_that_are_not_json_are_the_callers_fault() -> None:
    request = CommandRequest("a1", "PING", {"list": [1, float("nan")]})
    with pytest.raises(InvalidArgument, match=r"^command\.params\.list\[1\] is nan") as caught:
        wire_request(request, "key")
    assert (caught.value.reason, caught.value.field) == ("INVALID_PARAMS", "command.params.list[1]")


@pytest.mark.parametrize("slots", [0, -1, 1_001, 2**40])
def test_slots_out_of_range_are_not_taken_for_the_default(slots: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^command\.slots must be 1 to 1,000, not ") as caught:
        wire_request(CommandRequest("a1", "PING", slots=slots), "key")
    assert (caught.value.reason, caught.value.field) == ("SLOTS_OUT_OF_RANGE", "command.slots")


@pytest.mark.parametrize("max_runs", [0, -1, 101, 2**40])
def test_a_number_of_runs_out_of_range_is_not_taken_for_the_default(max_runs: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^command\.max_runs must be 1 to 100, not ") as caught:
        wire_request(CommandRequest("a1", "PING", max_runs=max_runs), "key")
    assert (caught.value.reason, caught.value.field) == ("MAX_RUNS_OUT_OF_RANGE", "command.max_runs")


def test_what_fits_into_no_message_is_told_before_anything_is_sent() -> None:
    with pytest.raises(InvalidArgument) as caught:
        wire_request(CommandRequest("a1", "PING", {"text": "x" * 9_000_000}), "key")
    assert str(caught.value) == (
        "command.params is 9,000,021 bytes, the limit is 8,388,608 for a whole message "
        "(servers accept 262,144 by default, see max_params_bytes)"
    )
    assert (caught.value.reason, caught.value.field) == ("PARAMS_TOO_LARGE", "command.params")


def test_a_signed_request_is_one_that_an_agent_accepts() -> None:
    signer = new_signer()
    request = CommandRequest("a1", "WORK", {"n": 1, "list": [0.5, "ö"]}, secret_params=["/n"])
    command = wire_request(request, "key", CommandSigner(signer, validity_seconds=60)).command
    content = signed_content(command)
    trusted(signer).verify(content, command.signature.value, content.expires_ms - 60_000)
    with pytest.raises(SignatureRefused):
        trusted(signer).verify(content, command.signature.value, content.expires_ms)
    assert list(command.secret_params) == ["/n"]


def test_each_request_has_a_signature_of_its_own() -> None:
    signer = CommandSigner(new_signer())
    requests = [wire_request(CommandRequest("a1", "WORK"), "key", signer) for _ in range(3)]
    assert len({request.command.signature.signature_id for request in requests}) == 3


def test_runs_by_reason_cannot_be_signed() -> None:
    request = CommandRequest("a1", "WORK", max_runs_by_reason={"flaky": 2})
    with pytest.raises(InvalidArgument, match="outside the signature") as caught:
        wire_request(request, "key", CommandSigner(new_signer()))
    assert caught.value.reason == "NOT_SIGNABLE"


def test_what_a_caller_sees_of_its_own_command_has_no_secrets() -> None:
    """The answer comes without params, so those of the request are shown: they have the secret."""
    request = wire_request(CommandRequest("a1", "WORK", {"password": "SECRET"}, secret_params=["/password"]), "key")
    answer = command_pb2.Command(agent_id="a1", type="WORK", secret_params=["/password"])
    state = command_pb2.CommandState(status=command_pb2.COMMAND_STATUS_QUEUED)
    command = command_of(answer, state, request.command.params)
    assert command.params == {"password": "***"}
    assert "SECRET" not in repr(command)
    assert request.command.params["password"] == "SECRET"
