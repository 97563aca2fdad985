"""How the example in Node runs handlers: what they throw, and limits longer than a timer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.source_tree import ROOT

SCRIPT = """
const { Agent } = require(process.argv[1] + '/runtime.js');
const { Journal } = require(process.argv[1] + '/journal.js');
const journal = new Journal(process.argv[2]);
const agent = new Agent({ id: 'a', server: 's', capacity: 1, journal, handlers: { X: HANDLER } });
const held = agent.hold('c', 'l', { command: { type: 'X', params: null, ...COMMAND } });
agent.execute(held).then(() => console.log(JSON.stringify(held.result)));
"""


def result_of(handler: str, packages: Path, folder: Path, command: str = "{}") -> Any:
    """What the agent reports after it has called a handler."""
    script = SCRIPT.replace("HANDLER", handler).replace("COMMAND", command)
    arguments = ["node", "-e", script, str(ROOT / "examples" / "node-agent"), str(folder / "journal")]
    environment = {**os.environ, "NODE_PATH": str(packages)}
    run = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_whatever_a_handler_throws_is_a_failure(node_packages: Path, tmp_path: Path) -> None:
    assert reason(result_of("() => { throw null; }", node_packages, tmp_path)) == ("handler_error", "null")
    assert reason(result_of("() => { throw 'a'; }", node_packages, tmp_path)) == ("handler_error", "a")
    assert reason(result_of("() => { throw { code: 7, message: 8 }; }", node_packages, tmp_path)) == (
        "handler_error",
        "8",
    )
    code, message = reason(result_of("() => fs.readFileSync('/no/such/file')", node_packages, tmp_path))
    assert code == "handler_error"
    assert message.startswith("ENOENT")


def test_what_is_no_json_is_a_failure(node_packages: Path, tmp_path: Path) -> None:
    assert reason(result_of("() => 1n", node_packages, tmp_path))[0] == "handler_error"


def test_a_limit_may_be_longer_than_a_timer(node_packages: Path, tmp_path: Path) -> None:
    """A timer of Node that is to wait for more than 2^31 ms fires at once."""
    days = "{ time_limit: { seconds: 30 * 86_400, nanos: 0 }, idle_limit: { seconds: 30 * 86_400, nanos: 0 } }"
    wait = "() => new Promise((resolve) => { setTimeout(() => resolve(held.deadline > 2_500_000), 300); })"
    result = result_of(wait, node_packages, tmp_path, days)
    assert result["status"] == "COMMAND_STATUS_COMPLETED"
    assert result["data"] == {"boolValue": True}


def reason(result: Any) -> tuple[str, str]:
    assert result["status"] == "COMMAND_STATUS_FAILED"
    return result["reason"]["code"], result["reason"]["message"]
