from __future__ import annotations

from distributor.conformance.message_text import SHOWN, text, texts
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2

LONG_ID = "0198c7aa-0000-7000-8000-00000012345a"


def test_each_part_is_named_with_what_matters() -> None:
    message = pb.ConnectRequest(
        heartbeat=pb.Heartbeat(sequence=3, credit=1, running=2),
        received=[pb.Received(command_id=LONG_ID)],
        started=[pb.Started(command_id=LONG_ID)],
        refused=[pb.Refused(command_id=LONG_ID, code=pb.REFUSAL_CODE_STALE)],
        output=[pb.Output(command_id=LONG_ID, offset=10, data=b"12345")],
        results=[
            pb.Result(
                command_id=LONG_ID,
                status=command_pb2.COMMAND_STATUS_FAILED,
                reason=command_pb2.Reason(code="handler_error"),
            )
        ],
        cancel_reports=[pb.CancelReport(command_id=LONG_ID, finding=pb.CANCEL_FINDING_UNKNOWN)],
        goodbye=pb.Goodbye(),
    )
    assert text(message) == (
        "Heartbeat 3 (credit 1, running 2), Received 12345a, Started 12345a, Refused 12345a STALE, "
        "Output 12345a 10–15, Result 12345a FAILED handler_error, CancelReport 12345a UNKNOWN, Goodbye"
    )


def test_a_code_that_is_not_known_is_shown_as_its_number() -> None:
    refused = pb.Refused.FromString(pb.Refused(command_id="a").SerializeToString() + b"\x18\x63")
    assert text(pb.ConnectRequest(refused=[refused])) == "Refused a 99"


def test_a_hello_shows_what_it_lists() -> None:
    hello = pb.Hello(running=[pb.RunningCommand()], unacknowledged=[pb.RunningCommand()] * 2)
    assert text(pb.ConnectRequest(hello=hello)) == "Hello with 1 running and 2 unacknowledged"


def test_only_the_last_messages_are_shown() -> None:
    messages = [pb.ConnectRequest(received=[pb.Received(command_id=f"{number}")]) for number in range(SHOWN + 5)]
    shown = texts(messages).split(" | ")
    assert shown[0] == "…"
    assert len(shown) == SHOWN + 1
    assert shown[-1] == f"Received {SHOWN + 4}"


def test_of_heartbeats_in_a_row_the_last_is_shown() -> None:
    beats = [pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=number)) for number in range(1, 30)]
    stopped = pb.ConnectRequest(goodbye=pb.Goodbye())
    assert texts([*beats, stopped]) == "Heartbeat 29 (credit 0, running 0) | Goodbye"


def test_silence_is_named() -> None:
    assert texts([]) == "nothing"
    assert texts([pb.ConnectRequest()]) == "an empty message"
