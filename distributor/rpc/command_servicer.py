"""CommandService on the wire: convert, call the use case, convert back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from distributor.dispatch.command_service import CommandService
from distributor.dispatch.command_watcher import CommandWatcher
from distributor.dispatch.retrying import Retrying, RetryRequest
from distributor.errors import DistributorError, InvalidArgument, PermissionDenied
from distributor.identity.caller import Caller
from distributor.model.check_budget import CheckBudget, TooCostly, call_budget, quick_budget
from distributor.model.command import CommandResult, CommandState
from distributor.model.queueing import Enqueued, NewCommand
from distributor.rpc import command_messages as messages
from distributor.rpc.current_caller import current_caller
from distributor.rpc.queue_request import CommandDefaults, new_command
from distributor.rpc.status import fill_queue_error
from distributor.tasks import LARGE_BYTES, off_loop
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceServicer
from distributor.wire.json_values import rough_size

MAX_STATES_PER_MESSAGE = 500
PAGE_BYTES = 3 * 1024 * 1024
"""A page of agents ends after this many bytes: clients receive at most 4 MiB by default."""
REQUEST_BYTES = 256
"""Fixed cost of a request, as the number of params bytes that cost the same."""

Context = grpc.aio.ServicerContext[Any, Any]


class CommandServicer(CommandServiceServicer):
    """One method per RPC. Raises our errors; an interceptor converts them to a status."""

    def __init__(
        self, service: CommandService, retrying: Retrying, watcher: CommandWatcher, defaults: CommandDefaults
    ) -> None:
        self._service = service
        self._retrying = retrying
        self._watcher = watcher
        self._defaults = defaults

    async def QueueCommand(self, request: pb.QueueCommandRequest, context: Context) -> pb.QueueCommandResponse:
        caller = current_caller()
        (command_id,) = self._service.new_ids([request.command.agent_id])
        new = await self._new(caller, request, command_id, call_budget())
        queued = await self._service.queue(caller, new)
        response = pb.QueueCommandResponse(already_queued=queued.already_queued)
        if queued.already_queued:
            await self._fill(caller, response, queued.command_id)
            return response
        messages.fill_queued(response, request.command, queued)
        if request.hold_output:
            self._watcher.reserve(queued.command_id)
        return response

    async def _new(
        self, caller: Caller, request: pb.QueueCommandRequest, command_id: str, call: CheckBudget
    ) -> NewCommand:
        """Convert a request: on the loop if that is quick, else in a thread. `call` bounds what all of a call cost."""
        if request.command.params.ByteSize() <= LARGE_BYTES:
            try:
                return new_command(request, command_id, self._defaults, caller, quick_budget())
            except TooCostly:
                # Only the check against the schema can be: again from the beginning, with all its steps.
                pass
        budget = CheckBudget(call=call)
        return await asyncio.to_thread(new_command, request, command_id, self._defaults, caller, budget)

    async def _fill(
        self, caller: Caller, response: messages.QueueAnswer | pb.GetCommandResponse, command_id: str
    ) -> None:
        """Write all of a stored command in its current state."""
        details = await self._service.get(caller, command_id)
        state = details.state
        messages.fill_command(response.command, state, details.encoded)
        if details.extended_ms is not None:
            response.command.time_limit.FromMilliseconds(details.extended_ms)
        messages.fill_state(response.state, state)
        response.state.output_bytes = details.output_bytes
        if not state.status.terminal:
            messages.fill_presence(response.state, details.agent)
        if details.late is not None and isinstance(response, pb.GetCommandResponse):
            messages.fill_result(response.late_result, details.late)

    async def _fill_presence(self, message: command_pb2.CommandState, state: CommandState) -> None:
        for agent in (await self._service.presences([state])).values():
            messages.fill_presence(message, agent)

    async def QueueCommands(self, request: pb.QueueCommandsRequest, context: Context) -> pb.QueueCommandsResponse:
        caller = current_caller()
        self._service.check_batch(len(request.requests))
        valid: list[NewCommand] = []
        errors: dict[int, DistributorError] = {}
        since_pause = 0
        budget = call_budget()
        ids = self._service.new_ids([item.command.agent_id for item in request.requests])
        for place, (item, command_id) in enumerate(zip(request.requests, ids, strict=True)):
            size = item.command.params.ByteSize()
            try:
                valid.append(await self._new(caller, item, command_id, budget))
            except (InvalidArgument, PermissionDenied) as error:
                errors[place] = error
            since_pause += REQUEST_BYTES + size
            if since_pause > LARGE_BYTES:
                # Yield to other tasks.
                await asyncio.sleep(0)
                since_pause = 0
        answers = iter(await self._service.queue_many(caller, valid))
        response = pb.QueueCommandsResponse()
        for place, item in enumerate(request.requests):
            answer = errors[place] if place in errors else next(answers)
            if isinstance(answer, DistributorError):
                fill_queue_error(response.outcomes.add().error, answer)
                continue
            outcome = response.outcomes.add(
                command_id=answer.command_id,
                already_queued=answer.already_queued,
                agent_connected=answer.agent.present,
                agent_known=answer.agent.known,
            )
            if item.hold_output and not answer.already_queued:
                self._watcher.reserve(answer.command_id)
            if request.with_commands:
                await self._fill_outcome(caller, outcome, item.command, answer)
        return response

    async def _fill_outcome(
        self, caller: Caller, outcome: pb.QueueCommandOutcome, command: command_pb2.Command, queued: Enqueued
    ) -> None:
        """Write the command without its params, and its state; or the error of reading an earlier command."""
        if not queued.already_queued:
            command.ClearField("params")
            messages.fill_queued(outcome, command, queued)
            return
        try:
            await self._fill(caller, outcome, queued.command_id)
            outcome.command.ClearField("params")
        except DistributorError as error:
            outcome.Clear()
            fill_queue_error(outcome.error, error)

    async def GetCommand(self, request: pb.GetCommandRequest, context: Context) -> pb.GetCommandResponse:
        response = pb.GetCommandResponse()
        await self._fill(current_caller(), response, request.command_id)
        return response

    async def GetResult(self, request: pb.GetResultRequest, context: Context) -> pb.GetResultResponse:
        response = pb.GetResultResponse()
        result = await self._service.result(current_caller(), request.command_id)
        await off_loop(rough_size(result.data, LARGE_BYTES), messages.fill_result, response.result, result)
        return response

    async def ListCommands(self, request: pb.ListCommandsRequest, context: Context) -> pb.ListCommandsResponse:
        page = await self._service.page(
            current_caller(), messages.query(request.filter), request.page_token, request.page_size
        )
        presences = await self._service.presences(page.items)
        response = pb.ListCommandsResponse(next_page_token=page.next_page_token)
        for state in page.items:
            summary = response.commands.add()
            messages.fill_summary(summary, state)
            if not state.status.terminal:
                messages.fill_presence(summary.state, presences[state.agent_id])
        return response

    async def WatchCommand(
        self, request: pb.WatchCommandRequest, context: Context
    ) -> AsyncIterator[pb.WatchCommandResponse]:
        updates = self._watcher.watch(
            current_caller(), request.command_id, request.output_offset, not request.without_output, request.hold_output
        )
        async with aclosing(updates):
            async for update in updates:
                size = rough_size(update.data, LARGE_BYTES) if isinstance(update, CommandResult) else 0
                response = await off_loop(size, messages.watch_response, request.command_id, update)
                if isinstance(update, CommandState):
                    await self._fill_presence(response.command.state, update)
                yield response

    async def WatchCommands(
        self, request: pb.WatchCommandsRequest, context: Context
    ) -> AsyncIterator[pb.WatchCommandsResponse]:
        changes = self._watcher.watch_many(
            current_caller(), list(dict.fromkeys(request.command_ids)), list(request.agent_ids)
        )
        async with aclosing(changes):
            async for states in changes:
                for first in range(0, max(len(states), 1), MAX_STATES_PER_MESSAGE):
                    response = pb.WatchCommandsResponse()
                    for state in states[first : first + MAX_STATES_PER_MESSAGE]:
                        messages.fill_summary(response.commands.add(), state)
                    yield response

    async def CancelCommand(self, request: pb.CancelCommandRequest, context: Context) -> pb.CancelCommandResponse:
        response = pb.CancelCommandResponse()
        messages.fill_summary(
            response.command, await self._service.cancel(current_caller(), request.command_id, request.reason)
        )
        return response

    async def RetryCommands(self, request: pb.RetryCommandsRequest, context: Context) -> pb.RetryCommandsResponse:
        retries = await self._retrying.retry(
            current_caller(),
            RetryRequest(
                request.command_ids,
                messages.query(request.filter),
                request.dry_run,
                request.limit,
                request.idempotency_key,
            ),
        )
        response = pb.RetryCommandsResponse(matched=retries.matched, more=retries.more)
        for command_id, outcome in retries.commands:
            retried = response.commands.add(command_id=command_id)
            if isinstance(outcome, DistributorError):
                fill_queue_error(retried.error, outcome)
            else:
                retried.new_command_id = outcome
        return response

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Context) -> pb.ListAgentsResponse:
        wanted = messages.agent_statuses(request.statuses)
        agents, next_page_token = await self._service.agents(current_caller(), request.page_token, request.page_size)
        response = pb.ListAgentsResponse()
        size = 0
        for agent in agents:
            if not wanted or agent.status in wanted:
                messages.fill_agent(response.agents.add(), agent)
                size += response.agents[-1].ByteSize()
            if size >= PAGE_BYTES and agent is not agents[-1]:
                # Labels may be large: prefer a shorter page to one that clients reject.
                next_page_token = agent.agent_id
                break
        response.next_page_token = next_page_token
        return response

    async def GetAgent(self, request: pb.GetAgentRequest, context: Context) -> pb.GetAgentResponse:
        response = pb.GetAgentResponse()
        messages.fill_agent(response.agent, await self._service.agent(current_caller(), request.agent_id))
        return response
