"""The kit notices each of these faults: the agent in Node with one line changed fails the scenario about it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from distributor.conformance.catalogue import SCENARIOS
from distributor.conformance.scenario_run import Score, Verdict
from tests.support.conformance import node_program, scores
from tests.support.source_tree import ROOT

PATIENCE_SECONDS: Final = 4.0
"""Long enough for the agent to start, short enough for what never comes."""

FAULTS: Final = [
    ("stale-heartbeat", "stream.js", "this.sentAt.get(afterHeartbeat) + this.startWithin", "now() + 60"),
    ("late-welcome", "stream.js", "new Map([[0, now()]])", "new Map([[0, now() + 60]])"),
    ("heartbeat-after-welcome", "stream.js", "if (refusal === 'STALE') this.beat();", ""),
    ("probe", "stream.js", "if (message.probe) this.beat();", ""),
    ("silent-server", "stream.js", "now() - this.heardAt >= 3 * this.interval", "false"),
    ("heartbeat-counts-commands", "stream.js", "running: agent.busy - pending", "running: 0"),
    ("busy-when-full", "stream.js", "agent.leaving || agent.busy + (slots || 1) > agent.capacity", "agent.leaving"),
    ("delivered-again-while-running", "stream.js", "if (!held.waiting) this.parts.started.push(names);", ""),
    ("delivered-again-when-done", "journal.js", "if (!entry.again) this.done.add(entry.forgotten);", ""),
    ("run-again-after-transient-failure", "journal.js", "if (!entry.again) this.done", "this.done"),
    ("time-limit", "runtime.js", "held.stop('time_limit')", "{}"),
    ("malformed-messages", "stream.js", "console.error('dropping the stream:', error);", "process.exit(3);"),
    ("result-only-once-stopped", "agent.js", "params.stubborn ? undefined : command.signal", "command.signal"),
    ("idle-limit", "runtime.js", "held.watch(timerMs(command.idle_limit))", "{}"),
    ("idle-limit-while-output-waits", "held.js", "this.blocked ? this.idle.refresh() : this", "this"),
    ("drain", "stream.js", "if (!this.next && !(this.agent.leaving", "if (!this.draining && !(this.agent.leaving"),
    ("drain-with-a-delay", "runtime.js", "for (await sleep(after); wanted(); ", "for (; wanted(); "),
    ("journal-lost", "journal.js", "this.id = crypto.randomUUID();", "this.id = 'always the same';"),
    ("output-window", "stream.js", "limits?.max_unacknowledged_output_bytes || 262_144", "262_144"),
    ("output-in-chunks", "stream.js", "limits?.max_output_chunk_bytes || 65_536", "65_536"),
    (
        "output-rewind",
        "held.js",
        "this.sent = this.safe;\n    this.suspended = false;\n  }\n\n  // Under",
        "}\n\n  // Under",
    ),
    ("output-under-new-lease", "held.js", "this.base = this.sent = this.safe;", "this.sent = this.safe;"),
    ("output-of-an-ended-command", "stream.js", "held.discardOutput();\n    held.stop('cancelled');", ""),
    (
        "result-acknowledged-under-another-lease",
        "stream.js",
        "if (!held?.result || lease !== held.lease) return;",
        "if (!held?.result) return;",
    ),
    (
        "result-sent-until-acknowledged",
        "stream.js",
        "if (held.result) this.results.add(held);\n    if (held.waiting)",
        "if (held.waiting)",
    ),
    (
        "result-with-verdict-stored",
        "stream.js",
        "if (stored || verdict?.verdict === 'VERDICT_STOP') {",
        "if (verdict?.verdict === 'VERDICT_STOP') {",
    ),
    ("result-too-large", "runtime.js", "bytes > maxResultBytes", "false"),
    ("result-that-ends-the-stream", "runtime.js", "...failed('result_rejected', details)", ""),
    ("cancel-of-another-lease", "stream.js", "(!lease || lease === held.lease)", "true"),
    ("cancel-while-output-waits", "held.js", "this.stopping.abort();\n    this.room();", "this.stopping.abort();"),
    ("leave-on-signal", "runtime.js", "this.stream?.beat();\n    return null;", "return null;"),
    ("killed-with-result", "runtime.js", "else if (!held.control) this.journal.note({ ended: result });", ""),
    ("killed-while-running", "stream.js", "this.agent.journal.write(...fresh", "this.agent.journal.write(...[]"),
    ("backoff-without-storm", "runtime.js", "await sleep(this.#backoff(end))", "await sleep(0.02)"),
    ("running-command-with-verdict-stop", "stream.js", "held.disowned = true;", ""),
    ("agent-id-taken", "runtime.js", ", retryAfter);", ", Infinity);"),
    ("invalid-hello", "runtime.js", "if (end.fatal) throw", "if (false) throw"),
]


@pytest.mark.parametrize(("name", "file", "right", "wrong"), FAULTS, ids=[fault[0] for fault in FAULTS])
async def test_a_broken_agent_fails(
    name: str, file: str, right: str, wrong: str, node_packages: Path, tmp_path: Path
) -> None:
    score = await score_of_broken(name, broken_agent(tmp_path / "agent", file, right, wrong), node_packages)
    assert score.verdict is Verdict.FAILED, score


@pytest.mark.parametrize("garbage", ["Buffer.from('garbage')", "require('node:zlib').gzipSync('garbage')"])
async def test_what_cannot_be_read_is_named(garbage: str, node_packages: Path, tmp_path: Path) -> None:
    wrong = f"this.call.write({{ gzip: {garbage} }}, () =>"
    folder = broken_agent(tmp_path / "agent", "stream.js", "this.call.write(message, () =>", wrong)
    score = await score_of_broken("run-a-command", folder, node_packages)
    assert score.verdict is Verdict.FAILED
    assert "then an unreadable `gzip` (" in score.came


def broken_agent(folder: Path, file: str, right: str, wrong: str) -> Path:
    """A copy of the agent with one line changed."""
    shutil.copytree(ROOT / "examples" / "node-agent", folder, ignore=shutil.ignore_patterns("node_modules"))
    source = (folder / file).read_text(encoding="utf-8")
    assert source.count(right) == 1, "the agent has changed: change this fault as well"
    (folder / file).write_text(source.replace(right, wrong), encoding="utf-8")
    return folder


async def score_of_broken(name: str, folder: Path, packages: Path) -> Score:
    """How an agent does in one scenario."""
    (scenario,) = [one for one in SCENARIOS if one.name == name]
    (score,) = await scores([scenario], *node_program(packages, folder), patience=PATIENCE_SECONDS)
    return score
