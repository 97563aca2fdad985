"""Where commands of registered types may run: the agents and labels that the policy names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from distributor.dispatch.ports import CommandReader
from distributor.errors import PermissionDenied
from distributor.identity.policy_source import PolicySource
from distributor.model.command_type import CommandType, NotPermitted
from distributor.model.queueing import NewCommand

NOT_REFUSED: Final[Mapping[int, PermissionDenied]] = {}


class TypePlaces:
    """Applies the policy to agents. Reads labels only for types that name some."""

    def __init__(self, reader: CommandReader, policy: PolicySource) -> None:
        self._reader = reader
        self._policy = policy

    async def refused(self, commands: Sequence[NewCommand]) -> Mapping[int, PermissionDenied]:
        """The error for each command that may not run on its agent, by its place."""
        types = self._policy.current.types.types
        if not types:
            return NOT_REFUSED
        restricted = {place: types[new.type] for place, new in enumerate(commands) if new.type in types}
        labelled = [place for place, type_ in restricted.items() if type_.labels]
        labels = await self._labels(list(dict.fromkeys(commands[place].agent_id for place in labelled)))
        refused = {}
        for place, type_ in restricted.items():
            agent_id = commands[place].agent_id
            error = _refusal(type_, agent_id, labels.get(agent_id))
            if error is not None:
                refused[place] = error
        return refused

    async def _labels(self, agent_ids: Sequence[str]) -> dict[str, Mapping[str, str]]:
        return dict(zip(agent_ids, await self._reader.labels(agent_ids), strict=True)) if agent_ids else {}


def _refusal(type_: CommandType, agent_id: str, labels: Mapping[str, str] | None) -> PermissionDenied | None:
    try:
        type_.check_agent(agent_id, labels)
    except NotPermitted as error:
        return PermissionDenied(str(error), reason=error.reason, field=error.field)
    return None
