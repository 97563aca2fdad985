'use strict';
// The durable record of an agent: a file with one JSON object per line, synced before anything depends on it.
//
//   {"journal": name, "halt": …}             the first line
//   {"held": {id, lease, result}}            a command, before its handler is called; again with its result, or with
//                                            `withdrawn` if it will never start
//   {"forgotten": id, "again": boolean}      its result was acknowledged; `again`: the id may be started again
//   {"halt": {stop_id, reason}}             an emergency stop is in force; null: it is over

const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');

const REMEMBERED = 10_000; // ids of commands that are done
const SMALL_BYTES = 1024 * 1024; // a file up to this size is not worth compacting

class Journal {
  // Opens the record, or begins a new one. Rejects if another agent on this host uses it.
  static async open(file) {
    // An abstract socket as lock: the kernel frees it when the process ends, however that happens.
    const full = path.join(fs.realpathSync(path.dirname(file)), path.basename(file));
    const lock = net.createServer().unref();
    await new Promise((resolve, reject) => {
      lock.once('error', () => reject(new Error(`another agent uses the journal ${full}`)));
      lock.listen(`\0node-agent-${crypto.createHash('sha256').update(full).digest('hex')}`, resolve);
    });
    return new Journal(full);
  }

  // `held` maps each command whose result was not acknowledged to {id, lease, result}; `done` has the ids that must not
  // be started again. `halt` is the emergency stop in force, or null.
  constructor(file) {
    Object.assign(this, { file, name: crypto.randomUUID(), held: new Map(), done: new Set(), halt: null });
    const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n') : [];
    for (const line of lines) {
      try {
        this.#apply(JSON.parse(line));
      } catch {} // The last line, cut off by a crash: nothing depended on it yet.
    }
    this.#compact();
  }

  // Adds lines and syncs them, all in one write. If it throws, nothing has changed.
  write(...entries) {
    if (entries.length === 0) return;
    if (this.size > 2 * this.compactSize + SMALL_BYTES) this.#compact();
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

  // Adds a line about what has happened, such as a command that has run. If that fails, it counts until the agent ends.
  note(entry) {
    try {
      this.write(entry);
    } catch (error) {
      console.error('the journal cannot be written:', error.message);
      this.#apply(entry);
    }
  }

  #append(entries) {
    fs.appendFileSync(this.descriptor, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  }

  #apply({ journal, held, forgotten, again, halt }) {
    if (journal) this.name = journal;
    if (halt !== undefined) this.halt = halt;
    if (held) this.held.set(held.id, held);
    if (!forgotten) return;
    this.held.delete(forgotten);
    this.done.delete(forgotten);
    if (!again) this.done.add(forgotten);
    if (this.done.size > REMEMBERED) this.done.delete(this.done.values().next().value);
  }

  // Leaves out what no longer matters. A crash keeps the old file or the new one; so does a full disk.
  #compact() {
    const old = this.descriptor;
    const fresh = `${this.file}.new`;
    try {
      fs.rmSync(fresh, { force: true });
      this.descriptor = fs.openSync(fresh, 'a', 0o600);
      const done = [...this.done].map((id) => ({ forgotten: id, again: false }));
      const begin = { journal: this.name, halt: this.halt };
      this.#append([begin, ...done, ...[...this.held.values()].map((held) => ({ held }))]);
      fs.fsyncSync(this.descriptor);
      fs.renameSync(fresh, this.file);
    } catch (error) {
      if (this.descriptor !== old) fs.closeSync(this.descriptor);
      this.descriptor = old;
      fs.rmSync(fresh, { force: true });
      throw error;
    }
    if (old) fs.closeSync(old);
    this.size = this.compactSize = fs.fstatSync(this.descriptor).size;
    const folder = fs.openSync(path.dirname(this.file), 'r');
    fs.fsyncSync(folder);
    fs.closeSync(folder);
  }
}

module.exports = { Journal };
