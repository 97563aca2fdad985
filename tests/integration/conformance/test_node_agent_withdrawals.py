"""The example in Node keeps a command that it received and will not start until the server surely knows that.

Its stream is replaced by a script, as no server can choose the moment between `Received` and the start.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.support.source_tree import ROOT

BEGIN: Final = """
const { EventEmitter } = require('node:events');
const { Agent } = require(process.argv[1] + '/runtime.js');
const { Stream } = require(process.argv[1] + '/stream.js');
const { Journal } = require(process.argv[1] + '/journal.js');

let starts = 0;
const made = (file) => {
  const handlers = { X: () => { starts += 1; } };
  return new Agent({ id: 'a', server: 's', capacity: 1, journal: new Journal(file), handlers });
};
let agent = made(process.argv[2]);
const empty = { gzip: '', cancels: [], result_acks: [], output_acks: [] };

// Opens the next stream. `call.sent` has what the agent wrote, `call.flushed()` runs the callbacks of its writes.
function opened() {
  const call = Object.assign(new EventEmitter(), { sent: [], callbacks: [], cancel() {}, end() {} });
  call.write = (message, callback) => { call.sent.push(message); if (callback) call.callbacks.push(callback); };
  call.flushed = () => call.callbacks.splice(0).forEach((callback) => callback());
  call.hear = (message) => call.emit('data', { ...empty, ...message });
  call.parts = (name) => call.sent.flatMap((message) => message[name] ?? []);
  call.breaks = () => call.emit('status', { code: 14, details: 'cut', metadata: null });
  call.answerLatest = () => {
    const sequence = call.sent.filter((message) => message.heartbeat).at(-1).heartbeat.sequence;
    call.hear({ heartbeat_reply: { sequence } });
  };
  new Stream(agent, { Connect: () => call }).run();
  return call;
}

function welcome(call, startWithin, verdict = 'VERDICT_KEEP') {
  const verdicts = call.sent[0].hello.running.map((one) => ({ command_id: one.command_id, verdict, output_offset: 0 }));
  const duration = (seconds) => ({ seconds, nanos: 0 });
  call.hear({ welcome: { heartbeat_interval: duration(10), start_within: duration(startWithin), verdicts } });
}

const give = (call, lease) => call.hear({ commands: {
  after_heartbeat: 0, assignments: [{ lease_id: lease, command: { command_id: 'c', type: 'X', params: null } }],
} });
const listed = (call) => call.sent[0].hello.running.map((one) => [one.command_id, one.lease_id]);
const refusals = (call) => call.parts('refused').map((one) => [one.command_id, one.lease_id, one.code]);
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// Received is on the wire, and the command is no longer fresh when the agent could start it.
async function receivedLate() {
  const call = opened();
  welcome(call, 1);
  give(call, 'l1');
  // The clock of the agent may be coarse.
  await pause(1100);
  return call;
}
"""


def output_of(script: str, packages: Path, folder: Path) -> Any:
    """What the script shows, called with an agent and a journal in the folder."""
    program = f"{BEGIN}(async () => {{ {script} }})();"
    arguments = ["node", "-e", program, str(ROOT / "examples" / "node-agent"), str(folder / "journal")]
    environment = {**os.environ, "NODE_PATH": str(packages), "DISTRIBUTOR_PROTO": str(ROOT / "proto")}
    run = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_a_command_refused_late_as_the_stream_ends_is_listed_and_refused_again(
    node_packages: Path, tmp_path: Path
) -> None:
    script = """
    (await receivedLate()).breaks();
    const next = opened();
    const first = listed(next);
    welcome(next, 15);
    const again = refusals(next);
    const kept = agent.held.size;
    next.answerLatest();
    console.log(JSON.stringify({ first, again, kept, left: agent.held.size, busy: agent.busy, starts }));
    """
    assert output_of(script, node_packages, tmp_path) == {
        "first": [["c", "l1"]],
        "again": [["c", "l1", "REFUSAL_CODE_STALE"]],
        "kept": 1,
        "left": 0,
        "busy": 0,
        "starts": 0,
    }


def test_the_answer_to_the_heartbeat_in_the_refusal_does_not_show_that_it_was_read(
    node_packages: Path, tmp_path: Path
) -> None:
    script = """
    const call = await receivedLate();
    call.flushed();
    call.answerLatest();
    const kept = agent.held.size;
    agent.stream.beat();
    call.answerLatest();
    console.log(JSON.stringify({ refused: refusals(call), kept, left: agent.held.size, busy: agent.busy }));
    """
    assert output_of(script, node_packages, tmp_path) == {
        "refused": [["c", "l1", "REFUSAL_CODE_STALE"]],
        "kept": 1,
        "left": 0,
        "busy": 0,
    }


def test_a_withdrawn_command_that_comes_again_is_started(node_packages: Path, tmp_path: Path) -> None:
    script = """
    (await receivedLate()).breaks();
    const next = opened();
    welcome(next, 15);
    give(next, 'l2');
    next.flushed();
    await pause(0);
    console.log(JSON.stringify({ started: next.parts('started').map((one) => one.lease_id), starts }));
    """
    assert output_of(script, node_packages, tmp_path) == {"started": ["l2"], "starts": 1}


def test_a_restarted_agent_still_lists_and_refuses_it(node_packages: Path, tmp_path: Path) -> None:
    script = """
    (await receivedLate()).breaks();
    agent = made(process.argv[2]);
    const next = opened();
    welcome(next, 15);
    const { unacknowledged } = next.sent[0].hello;
    console.log(JSON.stringify({ first: listed(next), unacknowledged, again: refusals(next), busy: agent.busy }));
    """
    assert output_of(script, node_packages, tmp_path) == {
        "first": [["c", "l1"]],
        "unacknowledged": [],
        "again": [["c", "l1", "REFUSAL_CODE_STALE"]],
        "busy": 0,
    }


def test_a_cancel_before_the_start_is_answered_unknown(node_packages: Path, tmp_path: Path) -> None:
    script = """
    const call = opened();
    welcome(call, 15);
    give(call, 'l1');
    call.hear({ cancels: [{ command_id: 'c', lease_id: 'l1' }] });
    call.flushed();
    await pause(0);
    const findings = call.parts('cancel_reports').map((one) => one.finding);
    call.breaks();
    console.log(JSON.stringify({ findings, starts, next: listed(opened()) }));
    """
    assert output_of(script, node_packages, tmp_path) == {
        "findings": ["CANCEL_FINDING_UNKNOWN"],
        "starts": 0,
        "next": [["c", "l1"]],
    }


def test_the_verdict_stop_forgets_it(node_packages: Path, tmp_path: Path) -> None:
    script = """
    (await receivedLate()).breaks();
    const next = opened();
    welcome(next, 15, 'VERDICT_STOP');
    console.log(JSON.stringify({ left: agent.held.size, busy: agent.busy, refused: refusals(next) }));
    """
    assert output_of(script, node_packages, tmp_path) == {"left": 0, "busy": 0, "refused": []}


def test_the_verdict_stored_stops_a_running_command(node_packages: Path, tmp_path: Path) -> None:
    script = """
    let signal;
    agent.handlers.X = (params, command) => new Promise((resolve) => {
      signal = command.signal;
      signal.addEventListener('abort', resolve);
    });
    const call = opened();
    welcome(call, 15);
    give(call, 'l1');
    call.flushed();
    call.breaks();
    const next = opened();
    welcome(next, 15, 'VERDICT_STORED');
    await pause(0);
    console.log(JSON.stringify({ aborted: signal.aborted, held: agent.held.size, results: next.parts('results') }));
    """
    assert output_of(script, node_packages, tmp_path) == {"aborted": True, "held": 0, "results": []}
