'use strict';
// The durable record of an agent: a file with one JSON object per line, synced before anything depends on it.
//
//   {"journal": id}                          the first line
//   {"received": {id, lease, type}}          before the handler is called
//   {"ended": result}                        before the result is sent; replaces an earlier one
//   {"forgotten": id, "again": boolean}      its result was acknowledged; `again`: the id may be started again

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const REMEMBERED = 10_000; // ids of commands that are done

class Journal {
  // Opens the record or begins a new one. `held` maps each command whose result was not acknowledged to
  // {lease, type, result}, and `done` has the ids that must not be started again.
  constructor(file) {
    this.file = file;
    this.id = crypto.randomUUID();
    this.held = new Map();
    this.done = new Set();
    if (fs.existsSync(file)) fs.readFileSync(file, 'utf8').split('\n').forEach((line) => this.#replay(line));
    this.#rewrite();
  }

  // Adds lines and syncs them, all in one write.
  write(...entries) {
    entries.forEach((entry) => this.#apply(entry));
    if (entries.length === 0) return;
    fs.writeSync(this.descriptor, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    fs.fdatasyncSync(this.descriptor);
  }

  #replay(line) {
    let entry;
    try {
      entry = JSON.parse(line);
    } catch {
      return; // The last line, cut off by a crash: nothing depended on it yet.
    }
    this.#apply(entry);
  }

  #apply(entry) {
    if (entry.journal) this.id = entry.journal;
    if (entry.received) this.held.set(entry.received.id, entry.received);
    if (entry.ended) this.held.get(entry.ended.command_id).result = entry.ended;
    if (entry.forgotten) {
      this.held.delete(entry.forgotten);
      this.done.delete(entry.forgotten);
      if (!entry.again) this.done.add(entry.forgotten);
      if (this.done.size > REMEMBERED) this.done.delete(this.done.values().next().value);
    }
  }

  // Leaves out what no longer matters. A crash keeps the old file or the new one.
  #rewrite() {
    const lines = [{ journal: this.id }];
    for (const id of this.done) lines.push({ forgotten: id, again: false });
    for (const { result, ...received } of this.held.values()) {
      lines.push({ received });
      if (result) lines.push({ ended: result });
    }
    const fresh = `${this.file}.new`;
    this.descriptor = fs.openSync(fresh, 'w', 0o600);
    fs.writeSync(this.descriptor, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    fs.fsyncSync(this.descriptor);
    fs.renameSync(fresh, this.file);
    const folder = fs.openSync(path.dirname(this.file), 'r');
    fs.fsyncSync(folder);
    fs.closeSync(folder);
  }
}

module.exports = { Journal };
