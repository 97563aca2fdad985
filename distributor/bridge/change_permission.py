"""Checks changes against the grants of a dashboard's caller, before the server checks them again on its behalf."""

from __future__ import annotations

from distributor.bridge.requests import Interrupt, Queue, Retry
from distributor.bridge.store_view import StoreView
from distributor.dispatch.refusals import no_such_command
from distributor.errors import PermissionDenied
from distributor.identity.caller import Caller
from distributor.model.labels import NO_LABELS


class ChangePermission:
    """Refuses what a caller may not see as the server does, also if the server does not know its callers."""

    def __init__(self, view: StoreView) -> None:
        self._view = view

    async def check(self, caller: Caller, request: Queue | Retry | Interrupt) -> None:
        """Raise PermissionDenied for a command to queue, and NotFound for another, that no grant includes."""
        if caller.grants.everything:
            return
        if isinstance(request, Queue):
            await self._check_queue(caller, request.command.agent_id, request.command.type)
        elif (await self._view.read(caller, [request.command_id]))[0] is None:
            refusal = no_such_command(request.command_id)
            refusal.field = "commandId"
            raise refusal

    async def _check_queue(self, caller: Caller, agent_id: str, type_: str) -> None:
        labels = await self._view.labels([agent_id]) if caller.grants.need_labels else {}
        if not caller.grants.permit(agent_id, labels.get(agent_id, NO_LABELS), type_):
            raise PermissionDenied(
                f"{caller} may not send commands of type '{type_}' to agent '{agent_id}': no grant includes it",
                field="agentId",
                reason="NOT_GRANTED",
            )
