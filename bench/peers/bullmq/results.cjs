// The results that a caller has seen; the counterpart of bench/peers/results.py.
'use strict';

class Results {
  #seen = new Map();
  #one = new Map();
  #counts = [];

  add(id) {
    if (this.#seen.has(id)) throw new Error(`command ${id} has two results`);
    const now = performance.now();
    this.#seen.set(id, now);
    this.#one.get(id)?.(now);
    this.#one.delete(id);
    const reached = this.#counts.filter(({ count }) => count <= this.#seen.size);
    if (reached.length === 0) return;
    this.#counts = this.#counts.filter(({ count }) => count > this.#seen.size);
    for (const { resolve } of reached) resolve();
  }

  clear() {
    this.#seen.clear();
  }

  // Resolves once `count` commands have a result.
  countReaches(count) {
    if (count <= this.#seen.size) return Promise.resolve();
    return new Promise((resolve) => this.#counts.push({ count, resolve }));
  }

  // Resolves to the arrival of a command's result, in milliseconds of performance.now().
  of(id) {
    if (this.#seen.has(id)) return Promise.resolve(this.#seen.get(id));
    return new Promise((resolve) => this.#one.set(id, resolve));
  }
}

exports.Results = Results;
