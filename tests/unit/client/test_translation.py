from __future__ import annotations

import pytest

from distributor.client import CommandRequest
from distributor.client.translation import wire_request
from distributor.errors import InvalidArgument


def test_params_that_are_not_json_are_the_callers_fault() -> None:
    request = CommandRequest("a1", "PING", {"list": [1, float("nan")]})
    with pytest.raises(InvalidArgument, match=r"^command\.params\.list\[1\] is nan") as caught:
        wire_request(request, "key")
    assert (caught.value.reason, caught.value.field) == ("INVALID_PARAMS", "command.params.list[1]")
