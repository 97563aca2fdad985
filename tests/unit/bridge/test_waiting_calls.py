from __future__ import annotations

import pytest

from distributor.bridge.waiting_calls import MAX_WAITING, MAX_WAITING_BYTES, WaitingCalls
from distributor.errors import ResourceExhausted


async def test_in_order_and_never_more_than_may_wait() -> None:
    calls: WaitingCalls[int] = WaitingCalls()
    for number in range(MAX_WAITING):
        calls.put(number, 10)
    with pytest.raises(
        ResourceExhausted, match="^1,000 requests wait, the limit; send it again when some are answered$"
    ):
        calls.put(MAX_WAITING, 10)
    assert [await calls.get() for _ in range(2)] == [0, 1]
    calls.put(MAX_WAITING, 10)
    assert [await calls.get() for _ in range(MAX_WAITING - 1)] == list(range(2, MAX_WAITING + 1))


async def test_large_ones_count_for_more() -> None:
    calls: WaitingCalls[str] = WaitingCalls()
    for _ in range(4):
        calls.put("large", MAX_WAITING_BYTES // 4)
    with pytest.raises(ResourceExhausted, match="^requests of 4 MiB wait, the limit; send it again"):
        calls.put("small", 1)
    await calls.get()
    calls.put("small", 1)
