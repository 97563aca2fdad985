'use strict';
// The agent: the commands that it holds, their handlers and limits, and one stream after another.

const crypto = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const grpc = require('@grpc/grpc-js');
const { Gateway, Stream, failed, fromStruct, now, seconds, toValue } = require('./stream');

const CONNECT_MS = 20_000;
const TICK_MS = 100;
const TIMEOUTS = ['time_limit', 'idle_limit', 'orphaned'];
const CHANNEL = {
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.use_local_subchannel_pool': 1, // each attempt has a connection of its own
};

// Throw it in a handler to fail with a code in lower_snake_case. `transient`: another run may succeed.
class Failure extends Error {
  constructor(code, message, transient = false) {
    super(message);
    Object.assign(this, { code, transient });
  }
}

// One command, from its Received until its result is acknowledged or its refusal is surely known.
class Held {
  constructor(id, lease, { slots = 1, command = null, freshUntil = 0 }) {
    Object.assign(this, { id, lease, slots, command, freshUntil }); // `command` until its handler is called
    this.result = null; // once the handler has ended
    // `withdrawn`: it will never start. The server knows once it answers a heartbeat after number `reportedAt`.
    Object.assign(this, { withdrawn: false, reportedAt: Infinity });
    this.stopping = new AbortController(); // its reason is why: cancelled or one of TIMEOUTS
    this.deadline = this.idleLimit = Infinity;
    // Output is kept from the first unacknowledged byte on, which is at offset `safe`; up to `sent` it was sent.
    Object.assign(this, { kept: Buffer.alloc(0), safe: 0, sent: 0, blocked: false, suspended: false, room: () => {} });
  }

  get names() {
    return { command_id: this.id, lease_id: this.lease };
  }

  get end() {
    return this.safe + this.kept.length;
  }

  stop(cause) {
    this.stopping.abort(cause); // Only the first cause counts.
    this.room();
  }

  // Adds output. Waits while as much as `window()` is unacknowledged; rejects once the command must stop.
  async write(data, window, wake) {
    for (let rest = Buffer.from(data); rest.length > 0; ) {
      this.stopping.signal.throwIfAborted();
      const few = rest.subarray(0, Math.max(0, window() - this.kept.length));
      rest = rest.subarray(few.length);
      this.kept = Buffer.concat([this.kept, few]);
      this.blocked = few.length === 0;
      if (this.blocked) await new Promise((resolve) => (this.room = resolve));
      else wake();
      this.lastSign = now();
    }
    this.blocked = false;
  }

  // The next piece to send, at most `window` bytes beyond what is acknowledged; null if there is none.
  piece(chunk, window) {
    const end = Math.min(this.end, this.safe + window, this.sent + chunk);
    if (this.suspended || end <= this.sent) return null;
    const data = this.kept.subarray(this.sent - this.safe, end - this.safe);
    this.sent = end;
    return { ...this.names, stream: 'OUTPUT_STREAM_STDOUT', offset: end - data.length, data };
  }

  acknowledge(offset) {
    const safe = Math.min(Math.max(this.safe, offset), this.sent);
    this.kept = this.kept.subarray(safe - this.safe);
    this.safe = safe;
    this.room();
  }

  discard() {
    Object.assign(this, { kept: Buffer.alloc(0), safe: this.end, sent: this.end });
    this.room();
  }

  // After a reconnect: send again from an offset, or from the first byte that is still here.
  rewind(offset) {
    this.acknowledge(offset);
    Object.assign(this, { sent: this.safe, suspended: false });
  }

  // Under a new lease, offsets begin at 0 with the first unacknowledged byte.
  renew(lease) {
    Object.assign(this, { lease, safe: 0, sent: 0, suspended: false });
    if (this.result) Object.assign(this.result, this.names, { output_bytes: this.end });
  }
}

class Agent {
  // `handlers` maps a type to a function of (params, {id, signal, output}) that returns the result's data.
  // `orphanAfter`: seconds without a server after which it stops all work; 0 for never.
  // `credentials()` returns those of the next connection.
  constructor({ id, server, credentials, capacity, journal, orphanAfter = 0, handlers }) {
    Object.assign(this, { id, server, credentials, capacity, journal, orphanAfter });
    this.handlers = { PING: () => ({ pong: true }), ...handlers };
    this.instance = crypto.randomUUID();
    this.held = new Map(); // by command id
    this.disowned = new Set(); // no longer its own, and not yet stopped
    this.limits = { result: 262_144, chunk: 65_536, window: 262_144 }; // in bytes; the Welcome sets them
    Object.assign(this, { stream: null, leaving: false, failures: 0, provenAt: now(), oneByOne: false });
    for (const { id: commandId, lease, result, withdrawn } of journal.held.values()) {
      const held = this.hold(commandId, lease, {});
      if (withdrawn) Object.assign(held, { withdrawn, slots: 0 });
      else held.result = result ?? { ...held.names, ...failed('outcome_unknown', 'the agent restarted while it ran') };
    }
  }

  // Commands that occupy slots, so neither a PING nor one that will never start.
  get running() {
    const running = [...this.held.values()].filter((held) => !held.result);
    return [...running, ...this.disowned].filter((held) => held.slots > 0);
  }

  // Slots in use.
  get busy() {
    return this.running.reduce((sum, held) => sum + held.slots, 0);
  }

  // Serves until it has left. Throws if the server refuses it for good.
  async run() {
    setInterval(() => this.#tick(), TICK_MS).unref();
    for (let client = null; client || !this.leaving || this.held.size > 0; ) {
      client ??= await this.#connected();
      const end = client ? await new Stream(this, client).run() : {};
      client?.close();
      if (end.fatal) throw new Error(`the server refuses this agent: ${end.details}`);
      client = end.next ?? null;
      if (!client && !end.left) await sleep(1000 * this.#backoff(end));
    }
  }

  // Takes no more commands; `run` returns once all have ended and their results are acknowledged.
  leave() {
    this.leaving = true;
    this.stream?.beat();
    this.stream?.flush();
  }

  // All deadlines are looked at ten times a second: a timer of Node cannot wait for more than 24 days.
  #tick() {
    for (const held of [...this.held.values(), ...this.disowned]) {
      if (now() >= held.deadline) held.stop('time_limit');
      if (now() - held.lastSign >= held.idleLimit && !held.blocked) held.stop('idle_limit');
      if (this.orphanAfter > 0 && now() - this.provenAt >= this.orphanAfter) held.stop('orphaned');
    }
    this.stream?.tick();
  }

  // Connections

  async #connected() {
    const client = new Gateway(this.server, this.credentials(), CHANNEL);
    const ready = (resolve) => client.waitForReady(Date.now() + CONNECT_MS, (error) => resolve(!error));
    if (await new Promise(ready)) return client;
    client.close();
    return null;
  }

  // A connection to a server that says it is ready, looked for after a time while `wanted` says so.
  async elsewhere(after, wanted) {
    for (await sleep(after * 1000); wanted(); await sleep(Math.random() * 1000)) {
      const client = await this.#connected();
      if (client && (await isServing(client)) && wanted()) return client;
      client?.close();
    }
    return null;
  }

  // Seconds to wait: exponential with full jitter, and no longer than the server says.
  #backoff({ confirmed, draining, retryAfter = Infinity }) {
    if (confirmed) this.failures = 0;
    if (draining) return Math.random();
    this.failures += 1;
    return Math.min(Math.random() * Math.min(2 ** (this.failures - 1), 60), retryAfter);
  }

  // Commands

  hold(id, lease, options) {
    const held = new Held(id, lease, options);
    this.held.set(id, held);
    return held;
  }

  async execute(held) {
    const { command } = held;
    held.command = null;
    held.lastSign = now();
    held.deadline = held.lastSign + (seconds(command.time_limit) || Infinity);
    held.idleLimit = seconds(command.idle_limit) || Infinity;
    const outcome = await this.#outcome(held, command);
    held.deadline = held.idleLimit = Infinity;
    if (this.disowned.delete(held)) return this.stream?.stopped(held);
    this.end(held, outcome);
  }

  end(held, outcome) {
    held.result = { ...held.names, ...outcome, output_bytes: held.end };
    this.journal.note({ held: { id: held.id, lease: held.lease, result: held.result } });
    if (this.leaving) this.stream?.beat(); // Before the result, which would make room for another command.
    this.stream?.flush();
  }

  // `again`: the same id may be started again.
  forget(held, again = false) {
    this.held.delete(held.id);
    this.journal.note({ forgotten: held.id, again });
  }

  // It will never start. Were it forgotten at once, a server that read only its Received would take it for lost.
  withdraw(held) {
    Object.assign(held, { command: null, slots: 0, withdrawn: true });
    this.journal.note({ held: { id: held.id, lease: held.lease, result: null, withdrawn: true } });
  }

  disown(held, again) {
    this.forget(held, again);
    if (!held.result && !held.withdrawn) this.disowned.add(held);
    held.stop('cancelled');
  }

  async #outcome(held, command) {
    const { signal } = held.stopping;
    const output = (data) => held.write(data, () => this.limits.window, () => this.stream?.flush());
    try {
      signal.throwIfAborted();
      const data = await this.handlers[command.type](fromStruct(command.params), { id: held.id, signal, output });
      const json = JSON.stringify(data) ?? 'null';
      const size = Buffer.byteLength(json);
      if (size > this.limits.result) throw new Failure('result_too_large', `the result has ${size} bytes`);
      return { status: 'COMMAND_STATUS_COMPLETED', data: toValue(JSON.parse(json)) };
    } catch (error) {
      if (!signal.aborted) return failed(error?.code, String(error?.message ?? error), error?.transient);
      const ending = TIMEOUTS.includes(signal.reason) ? 'TIMEOUT' : 'CANCELLED';
      return { status: `COMMAND_STATUS_${ending}`, reason: { code: signal.reason } };
    }
  }
}

// Whether the answer to a health check is SERVING.
function isServing(client) {
  const plain = (bytes) => bytes;
  const check = ['/grpc.health.v1.Health/Check', plain, plain, Buffer.alloc(0), { deadline: Date.now() + CONNECT_MS }];
  return new Promise((resolve) =>
    client.makeUnaryRequest(...check, (error, answer) => resolve(!error && answer.equals(Buffer.from([8, 1])))),
  );
}

module.exports = { Agent, Failure };
