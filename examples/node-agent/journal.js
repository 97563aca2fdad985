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

  // Adds lines and syncs them, all in one write. If it throws, nothing has changed.
  write(...entries) {
    if (entries.length === 0) return;
    try {
      this.#append(entries);
      fs.fdatasyncSync(this.descriptor);
    } catch (error) {
      fs.ftruncateSync(this.descriptor, this.size);
      throw error;
    }
    this.size = fs.fstatSync(this.descriptor).size;
    entries.forEach((entry) => this.#apply(entry));
  }

  // Adds a line about a command that has run. If that fails, it counts until the agent ends.
  note(entry) {
    try {
      this.write(entry);
    } catch (error) {
      console.error('the journal cannot be written:', error.message);
      this.#apply(entry);
    }
  }

  #append(entries) {
    const bytes = Buffer.from(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    for (let at = 0; at < bytes.length; ) {
      at += fs.writeSync(this.descriptor, bytes, at, bytes.length - at, this.size + at);
    }
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
    const ended = this.held.get(entry.ended?.command_id);
    if (ended) ended.result = entry.ended;
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
    this.size = 0;
    this.#append(lines);
    this.size = fs.fstatSync(this.descriptor).size;
    fs.fsyncSync(this.descriptor);
    fs.renameSync(fresh, this.file);
    const folder = fs.openSync(path.dirname(this.file), 'r');
    fs.fsyncSync(folder);
    fs.closeSync(folder);
  }
}

module.exports = { Journal };
