from __future__ import annotations

from distributor.dispatch.wakeups import Wakeups


async def test_it_collects_until_somebody_looks() -> None:
    wakeups = Wakeups()
    wakeups.wake("a")
    wakeups.wake("b")
    wakeups.wake("a")
    assert await wakeups.wait(10)
    assert wakeups.take() == {"a", "b"}
    assert wakeups.take() == set()
    assert not await wakeups.wait(0)


async def test_ringing_again_after_a_look_wakes_again() -> None:
    wakeups = Wakeups()
    wakeups.wake("a")
    wakeups.take()
    wakeups.wake("b")
    assert await wakeups.wait(10)
    assert wakeups.take() == {"b"}


async def test_which_may_have_a_control_command_is_kept_apart() -> None:
    wakeups = Wakeups()
    wakeups.wake("a", control=True)
    wakeups.wake("a")
    wakeups.wake("b")
    assert (wakeups.take(), wakeups.take_control()) == ({"a", "b"}, {"a"})
    assert wakeups.take_control() == set()
