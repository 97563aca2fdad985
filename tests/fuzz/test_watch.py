"""What the campaign judges by: slowed others, crashed programs, and exit codes without a meaning."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import click
import pytest
from click.testing import CliRunner

from tests.fuzz import command_line_runner
from tests.fuzz.campaign import Findings, Worker
from tests.fuzz.target import Fault
from tests.fuzz.watch import RoundTrips


@pytest.mark.parametrize(
    ("sound", "fuzzed", "disturbed"), [(0.01, 0.4, False), (0.2, 0.9, False), (0.2, 1.1, True), (0.01, 0.6, True)]
)
def test_others_are_disturbed_if_they_are_much_slower_beside_faults(
    sound: float, fuzzed: float, disturbed: bool
) -> None:
    assert RoundTrips("heartbeat", sound, fuzzed, (100, 100)).disturbed is disturbed


def crash() -> None:
    raise KeyError("odd")


def exit_with_99() -> None:
    click.get_current_context().exit(99)


def fail_silently() -> None:
    click.get_current_context().exit(1)


@pytest.mark.parametrize(
    ("program", "fault"),
    [(crash, "KeyError"), (exit_with_99, "99 has no meaning"), (fail_silently, "says nothing"), (lambda: None, "")],
)
def test_programs_that_end_as_none_may(program: Callable[[], None], fault: str) -> None:
    found = command_line_runner.fault_of(CliRunner().invoke(click.Command("odd", callback=program), []))
    assert fault in found if fault else found == ""


class Broken:
    """A target with a fault."""

    name = "broken"
    workers = 1

    async def attempt(self, rng: Random, sound: bool) -> None:
        raise Fault("it broke", b"case")


async def test_a_fault_is_a_complaint_that_shows_the_case() -> None:
    findings = Findings()
    await Worker(Broken(), Random(1), findings).run(sound=False, seconds=0.01)
    assert findings.complaints[0] == "it broke\n    sent b'case'"
    assert findings.attempts["broken, odd"] >= 1
