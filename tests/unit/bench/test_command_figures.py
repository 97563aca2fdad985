"""Figures about one command: parsing of Valkey's and perf's counts, floors, and ratios of costs."""

from __future__ import annotations

import asyncio
import os

import pytest

from bench.command_cost import CommandCost
from bench.cpu_findings import CpuTargets, cpu_findings
from bench.floor import Floor
from bench.proc_files import waits
from bench.system_calls import SystemCalls, counts
from bench.valkey_calls import ValkeyCalls, calls_of, inside_functions


def test_the_floors_differ_by_one_exchange_with_valkey() -> None:
    floor = Floor(unary=0.4, stream=0.2, function=0.1)
    assert floor.three_exchanges == pytest.approx(0.2 + 3 * 0.1 + 0.2 + 0.1)
    assert floor.two_exchanges == pytest.approx(0.2 + 2 * 0.1 + 0.2 + 0.1)


def test_the_total_is_that_of_all_processes() -> None:
    costs = {"server": 50.0, "valkey": 40.0, "agents": 20.0, "load": 10.0}
    total, server, valkey, *others = cpu_findings(costs, CpuTargets(total=125, server=49))
    assert (total.value, total.ok, server.ok, valkey.ok) == (120.0, True, False, None)
    assert [finding.name for finding in others] == ["agents CPU", "load CPU"]


def test_a_cost_is_compared_with_the_same_cost_of_the_smallest_size() -> None:
    small, large = CommandCost(200, 100, 40, 50, 1.0, 900), CommandCost(220, 150, 40, 100, 1.5, 900)
    ratios = large.ratios(small)
    assert ratios["time per command"] == pytest.approx(1.1)
    assert ratios["Valkey CPU"] == 2
    assert ratios["server CPU, one at a time"] == 1
    assert len(ratios) == 6


def test_commands_inside_functions_are_those_that_no_client_sends() -> None:
    line = "calls=2,usec=30,usec_per_call=15.00,rejected_calls=0,failed_calls=0"
    assert calls_of(line) == ValkeyCalls(2, 30)
    calls = {"fcall": ValkeyCalls(1, 100), "config|resetstat": ValkeyCalls(1, 7), "hset": ValkeyCalls(2, 30)}
    assert inside_functions(calls) == 30


def test_counts_of_perf_are_named_by_system_call() -> None:
    printed = "874,,raw_syscalls:sys_enter,189,100.00,,\n12,,syscalls:sys_enter_futex,189,100.00,,\n"
    assert counts(printed) == {"all": 874, "futex": 12}


@pytest.mark.parametrize("printed", ["", "<not counted>,,raw_syscalls:sys_enter,0,100.00,,", "Error:\nNo permission"])
def test_without_permission_perf_counts_nothing(printed: str) -> None:
    assert counts(printed) == {}


async def test_without_perf_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    async with SystemCalls(os.getpid()) as system_calls:
        pass
    assert system_calls.counts == {}


async def test_waits_of_a_process_are_counted() -> None:
    before = waits(os.getpid())
    for _ in range(20):
        await asyncio.sleep(0.001)
    # A wait may have ended before the process could sleep.
    assert (waits(os.getpid()) - before).total() >= 15
