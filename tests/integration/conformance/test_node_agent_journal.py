"""The journal of the example in Node on a disk that fails."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

JOURNAL = Path(__file__).parents[3] / "examples" / "node-agent" / "journal.js"

SCRIPT = """
const fs = require('node:fs');
const { Journal } = require(process.argv[1]);
const journal = new Journal(process.argv[2]);
const write = fs.writeSync;
const received = (id) => ({ received: { id, lease: 'l', type: 'X' } });
journal.write(received('kept'));
// The disk takes a part, then no more.
fs.writeSync = (descriptor, bytes, at, length, position) => {
  if (at > 0) throw new Error('ENOSPC');
  return write(descriptor, bytes, 0, 20, position);
};
let refused = '';
try { journal.write(received('lost'), received('lost too')); } catch (error) { refused = error.message; }
console.error = () => {};
journal.note({ forgotten: 'kept', again: false });
const during = { held: [...journal.held.keys()], done: [...journal.done] };
fs.writeSync = write;
journal.write(received('next'));
console.log(JSON.stringify({ refused, during, after: [...new Journal(process.argv[2]).held.keys()] }));
"""


def test_a_failed_write_changes_nothing_and_spoils_no_later_one(tmp_path: Path) -> None:
    command = ["node", "-e", SCRIPT, str(JOURNAL), str(tmp_path / "journal")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == {
        "refused": "ENOSPC",
        "during": {"held": [], "done": ["kept"]},
        "after": ["kept", "next"],
    }
