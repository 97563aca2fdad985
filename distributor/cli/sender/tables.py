"""Formats commands, results and agents as text for people."""

from __future__ import annotations

import time
from collections.abc import Sequence

from distributor.cli.one_line import one_line
from distributor.cli.sender.cancel_texts import STAGE_TEXTS
from distributor.cli.sender.columns import fit_table, format_table
from distributor.cli.sender.json_text import json_line
from distributor.cli.sender.screen import Screen
from distributor.client import (
    AgentInfo,
    AgentStatus,
    Attempt,
    Command,
    CommandResult,
    CommandState,
    CommandStatus,
    JsonValue,
    Receipts,
)
from distributor.model.requester import Requester
from distributor.wire.documents import time_text

_NAMES_SHOWN = 5
_STAGES = ("queued", "assigned", "sent", "acknowledged", "started", "finished")


def span_text(ms: int) -> str:
    """A duration of `ms` milliseconds in at most two units."""
    seconds = ms / 1000
    if ms < 1_000:
        return f"{ms} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def short_time(ms: int, now_ms: int) -> str:
    """A UTC time: hours to seconds if on the day of `now_ms`, month to minutes if in its year, otherwise the date."""
    text, now = _time(ms), _time(now_ms)
    if text[:10] == now[:10]:
        return f"{text[11:19]}Z"
    return f"{text[5:10]} {text[11:16]}Z" if text[:4] == now[:4] else text[:10]


def age_text(ms: int) -> str:
    """The age of a time by this machine's clock, such as "3 s ago"; empty if the time is 0."""
    return f"{_whole_span(ms)} ago" if ms else ""


def _whole_span(since_ms: int) -> str:
    age_ms = max(0, round(time.time() * 1000) - since_ms)
    return f"{age_ms // 1000} s" if age_ms < 60_000 else span_text(age_ms)


def count_of(number: int, noun: str) -> str:
    """A number and its noun, such as "2 commands"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def some_of(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def states_table(screen: Screen, states: Sequence[CommandState]) -> str:
    """A table of commands."""
    queued = [state.receipts.queued_ms for state in states]
    away = [state.agent.away_since_ms if state.agent else 0 for state in states]
    table = {
        "command": [state.command_id for state in states],
        "agent": [state.agent_id for state in states],
        "type": [state.type for state in states],
        "status": [screen.status(state.status) for state in states],
        "queued by": [_requester_name(state.requested_by) for state in states],
        "agent away since": [_time(ms) for ms in away],
        "priority": [str(state.priority) for state in states],
        "queued": [_time(ms) for ms in queued],
        "reason": [state.reason.code for state in states],
        "params": [one_line(state.params_summary) for state in states],
    }
    no_reason = () if any(table["reason"]) else ("reason",)
    dispensable = ("priority", *no_reason, "queued by", "type", "reason")
    for column in ("queued by", "agent away since"):
        if not any(table[column]):
            del table[column]
    short = {"queued": _short_times(queued), "agent away since": _short_times(away)}
    return fit_table(table, screen.width, short, dispensable)


def results_table(screen: Screen, results: Sequence[CommandResult]) -> str:
    """A table of results."""
    return format_table(
        {
            "command": [result.command_id for result in results],
            "agent": [result.agent_id for result in results],
            "status": [screen.status(result.status) for result in results],
            "exit": ["-" if result.exit_code is None else str(result.exit_code) for result in results],
            "output": [f"{result.output_bytes:,} B" for result in results],
            "reason": [result.reason.code for result in results],
        }
    )


def agents_table(screen: Screen, agents: Sequence[AgentInfo]) -> str:
    """A table of agents."""
    away = [agent.away_since_ms for agent in agents]
    table = {
        "agent": [agent.agent_id for agent in agents],
        "status": [agent.status.value for agent in agents],
        "problems": [_problem_codes(agent) for agent in agents],
        "lag": [_lag_text(agent) for agent in agents],
        "running": [str(agent.running) for agent in agents],
        "slots": [f"{agent.slots_used}/{agent.capacity}" for agent in agents],
        "queued": [str(agent.queued) for agent in agents],
        "last seen": [age_text(agent.last_seen_ms) for agent in agents],
        "away since": [_time(ms) for ms in away],
        "version": [one_line(agent.version) for agent in agents],
        "types": [one_line(" ".join(agent.types)) for agent in agents],
    }
    for column in ("problems", "lag", "away since"):
        if not any(table[column]):
            del table[column]
    return fit_table(table, screen.width, {"away since": _short_times(away)}, ("version",))


def _problem_codes(agent: AgentInfo) -> str:
    codes = one_line(" ".join(code for code, _ in agent.problems))
    return codes or ("late heartbeat" if agent.status is AgentStatus.DEGRADED else "")


def _lag_text(agent: AgentInfo) -> str:
    return span_text(agent.handler_lag_ms) if agent.handler_lag_ms else ""


def agent_text(agent: AgentInfo) -> str:
    """One agent, one line per field."""
    lines = [
        ("agent", agent.agent_id),
        ("status", agent.status.value),
        ("running", str(agent.running)),
        ("slots used", f"{agent.slots_used} of {agent.capacity}"),
        ("queued", str(agent.queued)),
        ("types", one_line(" ".join(agent.types))),
        ("labels", one_line(" ".join(f"{name}={value}" for name, value in sorted(agent.labels.items())))),
        ("version", one_line(agent.version)),
        ("epoch", str(agent.epoch)),
        ("connected", _time(agent.connected_ms)),
        ("last seen", f"{_time(agent.last_seen_ms)}, {age_text(agent.last_seen_ms)}" if agent.last_seen_ms else ""),
        ("away since", _time(agent.away_since_ms)),
        ("handler lag", _lag_text(agent)),
        ("journal", one_line(agent.journal_id)),
        *(("problem", problem) for problem in _problems(agent)),
    ]
    return _labelled(lines)


def _problems(agent: AgentInfo) -> list[str]:
    """Why an agent is degraded: what it reports and what servers noticed, or that its heartbeats are late."""
    problems = [_reason(code, message) for code, message in agent.problems]
    if agent.status is AgentStatus.DEGRADED and not problems:
        return ["its last heartbeat is older than two heartbeat intervals"]
    return problems


def _requester_name(requester: Requester | None) -> str:
    return one_line(requester.on_behalf_of or requester.subject) if requester is not None else ""


def requester_text(requester: Requester | None) -> str:
    """Who queued a command, such as "user alice by service bridge, from 10.0.0.7"; empty if not known."""
    if requester is None:
        return ""
    who = one_line(f"{requester.kind} {requester.subject}")
    if requester.on_behalf_of:
        who = f"user {one_line(requester.on_behalf_of)} by {who}"
    return f"{who}, from {one_line(requester.address)}" if requester.address else who


def command_text(screen: Screen, command: Command, result: CommandResult | None = None) -> str:
    """One command with its timeline; `result` if it has ended."""
    state = command.state
    lines = [
        ("command", state.command_id),
        ("agent", state.agent_id),
        ("type", state.type),
        ("retry of", command.retry_of),
        ("queued by", requester_text(state.requested_by)),
        ("status", screen.status(state.status)),
        ("reason", _reason(state.reason.code, state.reason.message)),
        ("exit code", _exit_code(result) if result else ""),
        ("priority", str(state.priority)),
        ("attempt", str(state.attempt)),
        ("runs", _runs_text(command)),
        ("time limit", span_text(command.time_limit_ms)),
        ("idle limit", span_text(command.idle_limit_ms) if command.idle_limit_ms else ""),
        ("slots", str(command.slots) if command.slots != 1 else ""),
        ("params", _json(command.params) if command.params else ""),
        ("secret", " ".join(command.secret_params)),
        ("signed by", command.signed_by),
        ("output", f"{state.output_bytes:,} bytes" if state.output_bytes else ""),
        ("progress", f"silent for {_whole_span(state.progress_ms)}" if state.progress_ms else ""),
        ("leftovers", leftovers_text(result) if result else ""),
        ("late report", _late_text(command.late_result) if command.late_result else ""),
        ("cancel", _cancel_text(state)),
        ("its agent", agent_absence(state) or ("" if state.status.terminal else "is connected")),
    ]
    return _labelled(lines) + "\n" + timeline(state.receipts) + _earlier(state.attempts)


def _runs_text(command: Command) -> str:
    """How often it may run, unless once."""
    runs = [f"up to {command.max_runs}, if failures are transient"] if command.max_runs != 1 else []
    runs += [f"up to {number} after {code}" for code, number in sorted(command.max_runs_by_reason.items())]
    return "; ".join(runs)


def _exit_code(result: CommandResult) -> str:
    return "" if result.exit_code is None else str(result.exit_code)


def _earlier(attempts: Sequence[Attempt]) -> str:
    return "".join(f"\n{_attempt_text(one)}" for one in attempts)


def _late_text(late: CommandResult) -> str:
    return f"{outcome_text(late)}; came at {_time(late.finished_ms)}, after the end, and changes nothing"


def _attempt_text(attempt: Attempt) -> str:
    """One ended attempt on one line."""
    started = f", started {time_text(attempt.receipts.started_ms)}" if attempt.started else ", not started"
    assigned, ended = time_text(attempt.receipts.assigned_ms), time_text(attempt.receipts.finished_ms)
    return f"  attempt {attempt.number}     assigned {assigned}{started}, ended {ended}: " + _reason(
        attempt.reason.code, attempt.reason.message
    )


def _cancel_text(state: CommandState) -> str:
    stage = f"; {STAGE_TEXTS[state.cancel_stage]}" if state.cancel_stage else ""
    return f"requested at {_time(state.cancel_ms)}{stage}" if state.cancel_ms else ""


def timeline(receipts: Receipts) -> str:
    """The time of each stage, and the time since the previous one."""
    lines, before = [], 0
    for stage, ms in zip(_STAGES, receipts, strict=True):
        if ms:
            lines.append(f"  {stage:<12}  {time_text(ms)}" + (f"  +{span_text(max(0, ms - before))}" if before else ""))
            before = ms
    return "\n".join(lines)


def result_text(screen: Screen, result: CommandResult) -> str:
    """One result, one line per field."""
    dropped = f", the first {result.output_dropped_bytes:,} were not kept" if result.output_dropped_bytes else ""
    lines = [
        ("command", result.command_id),
        ("agent", result.agent_id),
        ("type", result.type),
        ("status", screen.status(result.status)),
        ("reason", _reason(result.reason.code, result.reason.message)),
        ("exit code", _exit_code(result)),
        ("data", "" if result.data is None else _json(result.data)),
        ("output", f"{result.output_bytes:,} bytes{dropped}" if result.output_bytes else ""),
        ("leftovers", leftovers_text(result)),
        ("attempt", str(result.attempt) if result.attempts else ""),
        ("finished", _time(result.finished_ms)),
    ]
    return _labelled(lines) + _earlier(result.attempts)


def outcome_text(result: CommandResult) -> str:
    """One result in a few words."""
    exit_code = "" if result.exit_code is None else f", exit code {result.exit_code}"
    reason = _reason(result.reason.code, result.reason.message)
    leftovers = leftovers_text(result)
    return (
        f"{result.status.value}{exit_code}"
        + (f" ({reason})" if reason else "")
        + (f"; {leftovers}" if leftovers else "")
    )


def leftovers_text(result: CommandResult) -> str:
    """A note if processes outlived the program: killed, or still running; otherwise ""."""
    data = result.data if isinstance(result.data, dict) else {}
    surviving = data.get("surviving_processes")
    notes = ["leftover processes killed"] if data.get("killed_leftover_processes") is True else []
    if isinstance(surviving, list) and surviving:
        notes.append(f"processes still running: {len(surviving)}")
    return ", ".join(notes)


def agent_absence(state: CommandState) -> str:
    """A phrase to follow the agent's name if the agent of an unended command is away, otherwise ""."""
    if state.status.terminal or state.agent is None:
        return ""
    if state.agent.away_since_ms:
        since = f"has been away since {time_text(state.agent.away_since_ms)}"
        return since if state.status is CommandStatus.QUEUED else f"{since}; the command may still be running"
    return "" if state.agent.known else "has never connected"


def _short_times(times: Sequence[int]) -> list[str]:
    now_ms = round(time.time() * 1000)
    return [short_time(ms, now_ms) for ms in times]


def _labelled(lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{label:<12}  {text}" for label, text in lines if text)


def _reason(code: str, message: str) -> str:
    return one_line(f"{code}: {message}" if code and message else code or message)


def _json(value: JsonValue) -> str:
    return json_line(value)


def _time(ms: int) -> str:
    return time_text(ms) if ms else ""
