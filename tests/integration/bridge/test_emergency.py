"""Emergency stops as dashboards see and make them."""

from __future__ import annotations

from tests.support.emergency import resume, stop
from tests.support.running_bridge import RunningBridge
from tests.support.running_server import RunningServer
from tests.support.waiting import until


async def test_everyone_is_told_of_stops_and_of_their_end(server: RunningServer, bridge: RunningBridge) -> None:
    async with bridge.dashboard() as early:
        begun = await stop(server, "web-*", reason="leak")
        told = await early.first("emergency:stops")
        assert [(one["stopId"], one["selectors"], one["reason"]) for one in told["stops"]] == [
            (begun.stop_id, ["web-*"], "leak")
        ]
        async with bridge.dashboard() as late:
            assert (await late.first("emergency:stops"))["stops"] == told["stops"]
        await resume(server)
        await until(lambda: early.of("emergency:stops")[-1]["stops"] == [])


async def test_an_administrator_stops_and_resumes(server: RunningServer, bridge: RunningBridge) -> None:
    async with bridge.dashboard("admin") as dashboard:
        await dashboard.say("emergency:stop", all=True, reason="leak")
        (begun,) = (await dashboard.first("emergency:stops"))["stops"]
        assert (begun["all"], begun["reason"]) == (True, "leak")
        await dashboard.say("emergency:resume", stopId=begun["stopId"])
        await until(lambda: dashboard.of("emergency:stops")[-1]["stops"] == [])


async def test_others_may_not(bridge: RunningBridge) -> None:
    async with bridge.dashboard("operator") as dashboard:
        await dashboard.say("emergency:stop", requestId="r1", all=True)
        refused = await dashboard.first("error")
        assert (refused["code"], refused["requestId"]) == ("PERMISSION_DENIED", "r1")


async def test_a_scope_must_be_right(bridge: RunningBridge) -> None:
    async with bridge.dashboard("admin") as dashboard:
        await dashboard.say("emergency:stop", requestId="r1", selectors=["a b"])
        assert (await dashboard.first("error"))["code"] == "INVALID_ARGUMENT"
