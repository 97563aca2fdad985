from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Never

import pytest
import structlog

from distributor.dispatch import event_relay
from distributor.dispatch.event_relay import log_transitions
from distributor.model.event import Event, EventBatch, EventKind
from tests.support.memory_stores import agent_changed, changed, output_arrived, state

FACTS = EventBatch("1-0", "r", [changed(EventKind.STARTED, state("c1", attempt=2)), output_arrived(), agent_changed()])


def test_each_change_of_a_command_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log_transitions(FACTS)
    (line,) = caplog.records
    assert line.getMessage() == (
        "command changed agent_id=agent123 attempt=2 command_id=c1 kind=started reason= revision=5 status=assigned"
    )


def test_nothing_is_looked_at_on_other_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    class LookedAtError(Exception):
        pass

    class Unseen(list[Event]):
        def __iter__(self) -> Never:
            raise LookedAtError

    at_level = structlog.make_filtering_bound_logger
    for level in (logging.INFO, logging.DEBUG):
        monkeypatch.setattr(event_relay, "logger", structlog.wrap_logger(None, wrapper_class=at_level(level)))
        with pytest.raises(LookedAtError) if level == logging.DEBUG else nullcontext():
            log_transitions(EventBatch("1-0", "r", Unseen()))
