"""Assembles what queues commands, gives them to agents, and keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from distributor.app.lifespan import Loop
from distributor.app.shared_parts import SharedParts
from distributor.dispatch.command_distributor import CommandDistributor
from distributor.dispatch.command_service import CommandService
from distributor.dispatch.command_watcher import CommandWatcher
from distributor.dispatch.deadlines import Deadlines
from distributor.dispatch.index_check import IndexCheck
from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.retention import Retention
from distributor.dispatch.retrying import Retrying
from distributor.dispatch.type_places import TypePlaces
from distributor.model.command import CommandLimits
from distributor.model.retry_policy import RetryPolicy
from distributor.rpc.command_servicer import CommandServicer
from distributor.rpc.queue_request import CommandDefaults, repeated_command
from distributor.wire.at_rest_packer import AtRestPacker


@dataclass(frozen=True, slots=True)
class CommandParts:
    """What serves commands. `loops` are its background loops by name."""

    distributor: CommandDistributor
    servicer: CommandServicer
    loops: Mapping[str, Loop]


def command_parts(shared: SharedParts, retry: RetryPolicy, at_rest: AtRestPacker, holds: OutputHolds) -> CommandParts:
    """Assemble it."""
    stores, settings, relay = shared.stores, shared.settings, shared.relay
    distributor = CommandDistributor(
        stores.commands,
        shared.registry,
        shared.wakeups,
        shared.metrics,
        polling_interval=settings.polling_interval,
        batch_size=settings.batch_size,
    )
    limits = CommandLimits(
        settings.max_params_bytes, queue_limit=settings.queue_limit, caller_commands=settings.caller_commands
    )
    service = CommandService(stores.commands, stores.reader, distributor, limits, relay.alarm)
    service.places = TypePlaces(stores.reader, shared.policy)
    defaults = CommandDefaults(settings, at_rest, shared.policy)
    retrying = Retrying(service, stores.reader, partial(repeated_command, defaults=defaults))
    watcher = CommandWatcher(stores.reader, stores.output_log, shared.watches, holds)
    loops = {
        "command distributor": distributor.run,
        "deadlines": Deadlines(stores.commands, shared.wakeups, retry, shared.timing.deadlines, relay.alarm).run,
        "retention": Retention(stores.commands, settings.cleanup_interval).run,
        "index check": IndexCheck(stores.index_checker, shared.metrics, settings.cleanup_interval).run,
    }
    return CommandParts(distributor, CommandServicer(service, retrying, watcher, defaults), loops)
