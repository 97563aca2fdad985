"""The kit notices each of these faults: the model agent with one place changed fails the scenario about it."""

from __future__ import annotations

from typing import Final

import pytest

from distributor.conformance.catalogue import CHAPTERS, SCENARIOS
from distributor.conformance.score import Verdict
from distributor.conformance.unmet import FAULT_OF_THE_KIT
from tests.support.model_process import broken, played

FAULTS: Final = [
    # Hello
    ("valid-hello", 'agent_id="model"', 'agent_id="a model"'),
    ("valid-hello", "capacity=CAPACITY,", "capacity=0,"),
    ("valid-hello", 'types=["PING", "CONFORMANCE"]', 'types=["CONFORMANCE"]'),
    ("nothing-before-welcome", "if not self.open or self.goodbye:", "if self.goodbye:"),
    ("same-instance-on-reconnect", "instance_id=agent.instance_id", "instance_id=uuid.uuid4().hex"),
    ("same-instance-on-reconnect", "journal_id=agent.journal.name", "journal_id=uuid.uuid4().hex"),
    ("new-instance-after-restart", "instance_id=agent.instance_id", 'instance_id="always the same"'),
    ("unknown-verdict", "not in (pb.VERDICT_STOP, pb.VERDICT_STORED)", "== pb.VERDICT_KEEP"),
    # Heartbeats and credit
    ("heartbeats-in-sequence", "self.sequence += 1", "self.sequence += 2"),
    ("heartbeats-in-sequence", "now() - self.beat_at >= self.interval", "now() - self.beat_at >= 5 * self.interval"),
    ("sequence-starts-again", "self.sequence = 0", "self.sequence = 7 * agent.failures"),
    ("heartbeat-counts-commands", "running = self.agent.busy -", "running = 0 * self.agent.busy -"),
    ("heartbeat-counts-commands", "else CAPACITY - running", "else CAPACITY"),
    ("probe", 'if message.HasField("probe"):', "if False:"),
    ("busy-when-full", "self.agent.busy >= CAPACITY", "False"),
    ("control-commands-when-full", 'if command.type != "PING" and (', "if ("),
    (
        "room-after-result",
        "self.agent.busy >= CAPACITY",
        "len(self.agent.journal.done | {*self.agent.held}) >= CAPACITY",
    ),
    ("twenty-commands-in-a-message", "in message.commands.assignments:", "in reversed(message.commands.assignments):"),
    ("silent-server", "now() - self.heard_at >= 3 * self.interval", "False"),
    ("silent-server", "now() - self.heard_at >= 3 * self.interval", "now() - self.heard_at >= self.interval"),
    # Commands
    ("run-a-command", '"data": value}', '"data": Value(string_value="x")}'),
    ("run-a-command", "starts.write(", "starts.write(2 * "),
    (
        "received-before-started",
        "self.answers.received.add(**names)",
        "self.answers.received.extend(2 * [pb.Received(**names)])",
    ),
    ("report-a-failure", 'Failure("conformance_failure", ', 'Failure("error", '),
    ("report-a-failure", 'params["fail"] == "transient"', "True"),
    ("refuse-unknown-type", 'command.type not in ("PING", "CONFORMANCE")', "False"),
    (
        "same-assignment-twice",
        "        if held:\n            self.deliv",
        "        if held and lease_id != held.lease_id:\n            self.deliv",
    ),
    ("delivered-again-while-running", "self.answers.started.add(**held.names)", "pass"),
    ("delivered-again-while-running", "self.lease_id = lease_id", "pass"),
    ("delivered-again-with-result", "held.result.output_bytes = held.end\n            self.unanswered", "set()"),
    ("delivered-again-when-done", "command.command_id in self.agent.journal.done", "False"),
    ("run-again-after-transient-failure", "if not again:", "if True:"),
    (
        "unknown-fields",
        "if message.gzip:",
        "if not message.ListFields():\n            raise ValueError\n        if message.gzip:",
    ),
    ("parts-in-order-of-number", "for cancel in message.cancels:", "for cancel in ():"),
    ("parts-about-nothing", "if held and held.result and ack.lease_id", "if held.result and ack.lease_id"),
    ("parts-about-nothing", "if held is None or ack.lease_id", "if ack.lease_id"),
    ("malformed-messages", "except (OSError, EOFError, ValueError):", "except KeyError:"),
    # Freshness
    ("stale-heartbeat", ">= self.start_within", ">= 1_000.0"),
    ("late-welcome", "self.sent_at.get(after_heartbeat, -math.inf)", "self.sent_at.get(after_heartbeat or 1, now())"),
    (
        "late-welcome-with-keep",
        "return held.rewind(verdict.output_offset)",
        "return held.stop('cancelled') if now() - self.sent_at[0] > 2 else held.rewind(0)",
    ),
    (
        "heartbeat-after-welcome",
        "self.settle(held, verdict)\n        self.beat_due = True",
        "self.settle(held, verdict)",
    ),
    ("heartbeat-after-welcome", "self.beat_due = self.beat_due or refusal == pb.REFUSAL_CODE_STALE", "pass"),
    ("unknown-heartbeat", "self.sent_at.get(after_heartbeat, -math.inf)", "self.sent_at.get(after_heartbeat, now())"),
    # Output
    ("output-in-chunks", "pieces(self.agent.max_chunk,", "pieces(65_536,"),
    ("output-in-chunks", "offset = self.sent - len(data)", "offset = max(0, self.sent - len(data) - 1)"),
    ("output-in-chunks", "output_bytes=held.end)\n        self.journal", "output_bytes=0)\n        self.journal"),
    ("output-window", "self.agent.max_output = welcome.limits.max_unacknowledged_output_bytes", "pass"),
    ("output-window", "self.safe = safe\n        self.changed.set()", "self.safe = safe"),
    ("output-rewind", "self.sent = self.safe\n", "pass\n"),
    ("output-rewind", "output_offset=held.end", "output_offset=0"),
    ("output-under-new-lease", "self.safe = 0\n", "pass\n"),
    (
        "output-acknowledged-under-another-lease",
        "if held is None or ack.lease_id != held.lease_id:",
        "if held is None:",
    ),
    ("output-of-a-stale-lease", 'if ack.reason.code != "stale_lease":', "if True:"),
    ("output-of-an-ended-command", 'if ack.reason.code != "stale_lease":', "if False:"),
    # Results
    (
        "result-sent-until-acknowledged",
        "self.unanswered: set[Held] = set()",
        "self.unanswered = {*agent.held.values()}",
    ),
    ("result-with-verdict-stored", "(pb.VERDICT_STOP, pb.VERDICT_STORED)", "(pb.VERDICT_STOP,)"),
    ("result-with-verdict-stop", "(pb.VERDICT_STOP, pb.VERDICT_STORED)", "(pb.VERDICT_STORED,)"),
    (
        "result-not-stored",
        "if held and held.result and ack.lease_id",
        "if held and held.result and ack.verdict < 2 and ack.lease_id",
    ),
    ("result-acknowledged-under-another-lease", "held.result and ack.lease_id == held.lease_id", "held.result"),
    ("result-too-large", "value.ByteSize() > self.max_result", "False"),
    ("result-that-ends-the-stream", '**failed("result_rejected")', "status=held.result.status"),
    # Cancel
    ("cancel-while-running", "finding = pb.CANCEL_FINDING_STOPPING if mine else", "finding ="),
    ("cancel-while-running", "TIMEOUT if held.cause in LIMITS else CANCELLED", "TIMEOUT"),
    ("cancel-again-and-again", "mine = held is not None and", "mine = held is not None and not held.cause and"),
    ("cancel-unknown-command", "if mine else pb.CANCEL_FINDING_UNKNOWN", ""),
    ("cancel-of-another-lease", "cancel.lease_id == held.lease_id", "bool(held)"),
    ("cancel-with-result-in-transit", "mine = held is not None and", "mine = held is not None and not held.result and"),
    (
        "cancel-while-output-waits",
        "self.cause = self.cause or cause\n        self.changed.set()",
        "self.cause = self.cause or cause",
    ),
    ("cancel-after-verdict-stop", "if disowned.command_id == cancel.command_id:", "if False:"),
    ("cancel-after-verdict-stop", "cancel.lease_id, pb.CANCEL_FINDING_STOPPING)", "'', pb.CANCEL_FINDING_STOPPING)"),
    ("cancel-after-verdict-stop", "if self.stream and held.cancel_lease is not None:", "if False:"),
    # Emergency stop
    ("halt-while-running", 'held.stop("emergency_stop")', "pass"),
    ("halt-while-running", 'held.stop("emergency_stop")', 'held.stop("cancelled")'),
    (
        "halt-while-running",
        "message.halted.running.extend(pb.StillRunning(command_id=held.command_id) for held in running)",
        "pass",
    ),
    ("halt-of-a-stubborn-command", "(waits and not running)", "running"),
    (
        "halt-of-a-stubborn-command",
        "        running = self.agent.running\n",
        "        running = [held for held in self.agent.running if not held.cause]\n",
    ),
    ("halted-agent-starts-nothing", 'if self.agent.halt and command.type != "PING":', "if False:"),
    ("halted-agent-starts-nothing", 'if self.agent.halt and command.type != "PING":', "if self.agent.halt:"),
    ("halted-agent-starts-nothing", 'code="emergency_stop" if self.agent.halt else ""', ""),
    ("halted-agent-starts-nothing", 'self.agent.halt = self.agent.journal.halt = ""', "pass"),
    (
        "halt-right-after-a-command",
        'held.stop("emergency_stop")',
        'held.stop("emergency_stop" if held.last_sign else "")',
    ),
    ("halt-right-after-a-command", "message.halted.stop_id = self.agent.halt", "message.halted.stop_id = 'another'"),
    ("halt-in-heartbeats", 'beat.problems.add(code="emergency_stop")', "pass"),
    ("halt-in-heartbeats", "beat.credit = 0\n", "pass\n"),
    (
        "halt-in-heartbeats",
        'self.agent.halt = self.agent.journal.halt = ""\n            self.beat_due = True',
        'self.agent.halt = self.agent.journal.halt = ""',
    ),
    ("later-halt", "self.agent.journal.halt = stop_id", "self.agent.journal.halt = self.agent.halt or stop_id"),
    ("later-halt", "self.halt_said = -1\n        for", "for"),
    ("halt-in-the-welcome", 'if welcome.HasField("halt"):', "if False:"),
    ("halt-over-a-reconnect", "stop_id=agent.halt)", 'stop_id="")'),
    ("halt-over-a-reconnect", "self.halt_said = -1\n        self.seq", "self.agent.halt = ''\n        self.seq"),
    ("halt-over-a-restart", "self.agent.journal.halt = stop_id", "stop_id"),
    ("halt-over-a-restart", 'self.agent.journal.halt = ""', '""'),
    # Time limits
    ("time-limit", 'held.stop("time_limit")', "pass"),
    ("time-limit", "if now() >= held.deadline:", "if now() >= held.deadline + 30:"),
    ("idle-limit", 'held.stop("idle_limit")', "pass"),
    ("idle-limit-while-output-waits", "and not held.blocked:", ":"),
    ("orphaned", 'held.stop("orphaned")', "pass"),
    ("orphaned", '"idle_limit", "orphaned")', '"idle_limit")'),
    ("result-only-once-stopped", ' and not params.get("stubborn")', ""),
    # Compression
    ("gzip-not-offered", "not self.accepts_gzip or message", "message"),
    ("gzip-offered", "pb.ConnectRequest(gzip=", "pb.ConnectRequest(output=message.output, gzip="),
    (
        "gzip-offered",
        "if len(message.output) == 20:",
        "if len(message.output) == 1:\n                    message.output[0].data = b'x'",
    ),
    ("gzip-commands", "if message.gzip:", "if False:"),
    # Leaving
    ("drain", "await self.agent.gateway.ready.wait()", "pass"),
    ("drain", "self.moving = True", "self.stream.cancel()"),
    ("drain-with-a-delay", "await asyncio.sleep(after)", "pass"),
    ("drain-that-breaks", "await asyncio.sleep(after)", "self.agent.held.clear()"),
    ("leave-on-stop", "self.goodbye and self.agent.leaving", "False"),
    ("leave-on-stop", "self.stream.half_close()", "self.stream.cancel()"),
    ("leave-on-signal", "(self.agent.leaving or self.agent.busy", "(self.agent.busy"),
    ("leave-on-signal", "credit = 0 if self.agent.leaving else CAPACITY - running", "credit = CAPACITY - running"),
    # Journal
    ("journal-survives", "journal_id=agent.journal.name", "journal_id=agent.instance_id"),
    ("journal-lost", "journal_id=agent.journal.name", 'journal_id="always the same"'),
    ("killed-while-running", "self.agent.journal.held[command.command_id] = lease_id, None", "pass"),
    ("killed-while-running", 'failed("outcome_unknown")', 'failed("handler_error")'),
    ("killed-with-result", "self.journal.held[held.command_id] = held.lease_id, held.result", "pass"),
    ("killed-when-done", "self.journal.done.add(held.command_id)", "pass"),
    # Reconnecting
    ("running-command-survives", "if held.result is None],", "if held.result],"),
    (
        "server-restart",
        "finally:\n            self.stream = None",
        "finally:\n            self.stream = self.held.clear()",
    ),
    (
        "running-command-with-verdict-stop",
        'self.agent.disowned.add(held)\n            held.stop("cancelled")',
        "self.agent.disowned.add(held)",
    ),
    (
        "running-command-with-verdict-stop",
        "self.disowned.discard(held)\n            self.beat()",
        "self.disowned.discard(held)",
    ),
    (
        "superseded",
        "if status.code == grpc.StatusCode.INVALID_ARGUMENT:",
        "if status.code == grpc.StatusCode.ABORTED:\n            raise Leaving(1)\n        if False:",
    ),
    ("invalid-hello", "if not self.open:\n                raise", "if False:\n                raise"),
    ("agent-id-taken", "backoff if retry_after is None else", "backoff if True else"),
    ("backoff-without-storm", "random.random() * min(2.0 ** (self.failures - 1), 60.0)", "0.02"),
]


def test_each_scenario_is_shown_to_fail() -> None:
    assert {name for name, _, _ in FAULTS} == {one.name for one in SCENARIOS}


@pytest.mark.parametrize(
    ("name", "right", "wrong"), FAULTS, ids=[f"{name}-{n}" for n, (name, _, _) in enumerate(FAULTS)]
)
def test_a_broken_agent_fails(name: str, right: str, wrong: str) -> None:
    (one,) = (each for each in SCENARIOS if each.name == name)
    score = played(one, broken(right, wrong))
    assert score.verdict is Verdict.FAILED
    assert FAULT_OF_THE_KIT not in score.came
    assert score.expected
    assert score.came


def test_an_agent_that_does_not_know_emergency_stops_skips_what_is_about_them() -> None:
    old = broken("halts=pb.HaltMemory(stop_id=agent.halt),", "")
    scored = [played(one, old) for one in CHAPTERS["halts"]]
    assert {(score.verdict, score.came) for score in scored} == {(Verdict.SKIPPED, "no halts")}


def test_a_later_scenario_ends_the_emergency_stop_of_an_earlier_one() -> None:
    (one,) = (each for each in SCENARIOS if each.name == "run-a-command")
    assert played(one, broken("self.halt = journal.halt", "self.halt = 'left'")).verdict is Verdict.PASSED


@pytest.mark.parametrize("garbage", ["b'garbage'", "gzip.compress(b'garbage')", "gzip.compress(bytes(10_000_000))"])
def test_what_cannot_be_read_is_named(garbage: str) -> None:
    (one,) = (each for each in SCENARIOS if each.name == "run-a-command")
    score = played(
        one, broken("self.stream.send(self.packed(message))", f"self.stream.send(pb.ConnectRequest(gzip={garbage}))")
    )
    assert score.verdict is Verdict.FAILED
    assert "then an unreadable `gzip` (" in score.came
