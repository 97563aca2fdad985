from __future__ import annotations

import pytest

from distributor.rpc.malformed import Malformed, tolerant
from distributor.v1.command_service_pb2 import GetCommandRequest


def test_a_message_is_read_as_it_is() -> None:
    message = GetCommandRequest(command_id="c1")
    assert tolerant(GetCommandRequest.FromString)(message.SerializeToString()) == message


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x05abc", b"\x0a\x02\xc3\x28"])
def test_what_is_no_message_is_told_as_such(data: bytes) -> None:
    read = tolerant(GetCommandRequest.FromString)(data)
    assert isinstance(read, Malformed)
    assert (read.error.code, read.error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


def test_other_errors_are_not_hidden() -> None:
    def broken(data: bytes) -> GetCommandRequest:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        tolerant(broken)(b"")
