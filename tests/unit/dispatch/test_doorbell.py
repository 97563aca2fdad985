from __future__ import annotations

from distributor.dispatch.doorbell import Doorbell


async def test_it_collects_until_somebody_looks() -> None:
    doorbell = Doorbell()
    doorbell.ring("a")
    doorbell.ring("b")
    doorbell.ring("a")
    assert await doorbell.wait(10)
    assert doorbell.take() == {"a", "b"}
    assert doorbell.take() == set()
    assert not await doorbell.wait(0)


async def test_ringing_again_after_a_look_wakes_again() -> None:
    doorbell = Doorbell()
    doorbell.ring("a")
    doorbell.take()
    doorbell.ring("b")
    assert await doorbell.wait(10)
    assert doorbell.take() == {"b"}
