"""The journal of the example in Node: on a disk that fails, as it grows, and with two agents."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

JOURNAL: Final = Path(__file__).parents[3] / "examples" / "node-agent" / "journal.js"

BEGIN: Final = """
const fs = require('node:fs');
const { Journal } = require(process.argv[1]);
const file = process.argv[2];
const show = (value) => console.log(JSON.stringify(value));
const received = (id) => ({ held: { id, lease: 'l', result: null } });
"""


def output_of(script: str, folder: Path) -> Any:
    command = ["node", "-e", BEGIN + script, str(JOURNAL), str(folder / "journal")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_a_failed_write_changes_nothing_and_spoils_no_later_one(tmp_path: Path) -> None:
    script = """
    const journal = new Journal(file);
    const append = fs.appendFileSync;
    journal.write(received('kept'));
    // The disk takes a part, then no more.
    fs.appendFileSync = (descriptor, text) => {
      append(descriptor, text.slice(0, 20));
      throw new Error('ENOSPC');
    };
    let refused = '';
    try { journal.write(received('lost'), received('lost too')); } catch (error) { refused = error.message; }
    console.error = () => {};
    journal.note({ forgotten: 'kept', again: false });
    const during = { held: [...journal.held.keys()], done: [...journal.done] };
    fs.appendFileSync = append;
    journal.write(received('next'));
    show({ refused, during, after: [...new Journal(file).held.keys()] });
    """
    assert output_of(script, tmp_path) == {
        "refused": "ENOSPC",
        "during": {"held": [], "done": ["kept"]},
        "after": ["kept", "next"],
    }


def test_it_is_compacted_while_it_grows(tmp_path: Path) -> None:
    script = """
    const journal = new Journal(file);
    journal.write(received('kept'));
    for (let i = 0; i < 200; i += 1) {
      const id = `c${i}`;
      journal.write(received(id));
      journal.write({ held: { id, lease: 'l', result: { data: 'x'.repeat(50_000) } } });
      journal.write({ forgotten: id, again: false });
    }
    const { size } = fs.statSync(file);
    const after = new Journal(file);
    const same = after.name === journal.name;
    show({ small: size < 2_000_000, same, held: [...after.held.keys()], done: after.done.size });
    """
    assert output_of(script, tmp_path) == {"small": True, "same": True, "held": ["kept"], "done": 200}


def test_a_full_disk_keeps_the_file_that_it_could_not_compact(tmp_path: Path) -> None:
    script = """
    const journal = new Journal(file);
    journal.write(received('kept'), { held: { id: 'large', lease: 'l', result: 'x'.repeat(2_000_000) } });
    const sync = fs.fsyncSync;
    fs.fsyncSync = () => { throw new Error('ENOSPC'); };
    let refused = '';
    try { journal.write(received('lost')); } catch (error) { refused = error.message; }
    fs.fsyncSync = sync;
    journal.write(received('next'));
    show({ refused, after: [...new Journal(file).held.keys()] });
    """
    assert output_of(script, tmp_path) == {"refused": "ENOSPC", "after": ["kept", "large", "next"]}


def test_a_full_disk_costs_no_descriptors_and_no_room(tmp_path: Path) -> None:
    """Each write tries to compact the file again. Without descriptors the agent could not read its clock."""
    script = """
    const journal = new Journal(file);
    journal.write({ held: { id: 'large', lease: 'l', result: 'x'.repeat(2_000_000) } });
    fs.fsyncSync = () => { throw new Error('ENOSPC'); };
    const open = () => fs.readdirSync('/dev/fd').length;
    const before = open();
    for (let i = 0; i < 20; i += 1) {
      try { journal.write(received('lost')); } catch {}
    }
    show({ leaked: open() - before, files: fs.readdirSync(require('node:path').dirname(file)) });
    """
    assert output_of(script, tmp_path) == {"leaked": 0, "files": ["journal"]}


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    script = """
    const second = () => Journal.open(file).then(() => 'opened', (error) => error.message);
    Journal.open(file).then(second).then(show);
    """
    assert output_of(script, tmp_path) == f"another agent uses the journal {tmp_path}/journal"
