"""Control commands reach an agent however busy it is, and a STOP no instance but its own."""

from __future__ import annotations

from tests.support.running_server import FAILED, RunningServer


async def test_a_full_agent_is_given_control_commands_at_once(server: RunningServer) -> None:
    async with server.agent(capacity=1) as agent:
        work = await server.queue_many(2)
        await agent.start(*await agent.assigned())
        await agent.heartbeat(credit=0, running=1)
        control = [await server.queue(command_type=kind) for kind in ("PING", "STOP")]
        assignments = await agent.assigned(3)
        assert agent.command_ids == [work[0], *control]
        # They take up no room: once the work has ended, the next of it comes.
        await agent.start(*assignments[1:])
        await agent.finish(assignments[0])
        await agent.assigned(4)
        assert agent.command_ids == [work[0], *control, work[1]]


async def test_an_agent_that_takes_no_more_work_still_gets_them(server: RunningServer) -> None:
    async with server.agent(capacity=5) as agent:
        await agent.heartbeat(credit=0, running=0)
        await server.queue()
        stop = await server.queue(command_type="STOP")
        await agent.assigned()
        assert agent.command_ids == [stop]


async def test_only_a_few_at_a_time(server: RunningServer) -> None:
    async with server.agent(capacity=1) as agent:
        ids = await server.queue_many(6, command_type="PING")
        first = await agent.assigned(4)
        await agent.start(*first)
        await agent.heartbeat(credit=1, running=0)
        assert agent.command_ids == ids[:4]
        await agent.finish(first[0], first[1])
        await agent.assigned(6)
        assert agent.command_ids == ids


async def test_a_queued_stop_does_not_end_the_instance_that_comes_after(server: RunningServer) -> None:
    async with server.agent(instance_id="old", types=["PRINT"]) as agent:
        await agent.leave()
    stop = await server.queue(command_type="STOP")
    async with server.agent(instance_id="new") as agent:
        state = await server.until_state(stop, lambda state: state.status == FAILED)
        assert state.reason.code == "instance_gone"
        ping = await server.queue(command_type="PING")
        await agent.assigned()
        assert agent.command_ids == [ping]
