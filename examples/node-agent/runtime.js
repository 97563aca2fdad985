'use strict';
// The agent: what it holds, its handlers, and one stream after another.

const crypto = require('node:crypto');
const grpc = require('@grpc/grpc-js');
const { Held, slotsOf } = require('./held');
const { Journal } = require('./journal');
const { Gateway, fromStruct, toSeconds, toValue } = require('./protocol');
const { Stream } = require('./stream');

const CONNECT_MS = 20_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const CHANNEL = {
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.use_local_subchannel_pool': 1, // each attempt has a connection of its own
};

const REASON_CODE = /^[a-z][a-z0-9_]{0,63}$/;

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// Throw it in a handler to fail with a code in lower_snake_case. `transient`: another run may succeed.
class Failure extends Error {
  constructor(code, message, transient = false) {
    super(message);
    Object.assign(this, { code, transient });
  }
}

class Agent {
  // `handlers` maps a type to a function of (params, {id, signal, output}) that returns the result's data.
  // `orphanAfter`: seconds without a server after which it stops all work; 0 for never.
  constructor({ id, server, capacity, journal, orphanAfter = 0, handlers }) {
    Object.assign(this, { id, server, capacity, orphanAfter });
    this.handlers = {
      PING: () => ({ pong: true }),
      STOP: (params) => this.leave(params.running === 'cancel'),
      ...handlers,
    };
    this.instance = crypto.randomUUID();
    this.journal = new Journal(journal);
    this.held = new Map(); // by command id
    for (const [commandId, kept] of this.journal.held) this.#restore(commandId, kept);
    this.suspects = new Set(); // ids of results that may have ended a stream: sent one at a time
    this.stream = null;
    this.leaving = false;
    this.failures = 0;
  }

  get busy() {
    return slotsOf([...this.held.values()].filter((held) => !held.result && !held.control));
  }

  // Serves until it leaves. Throws if the server refuses it for good.
  async run() {
    let client = null;
    while (!this.leaving || this.held.size > 0) {
      client ??= await this.#connected();
      const end = client ? await new Stream(this, client).run() : {};
      client?.close();
      client = end.next ?? null;
      if (end.fatal) throw new Error(`the server refuses this agent: ${end.details}`);
      if (end.goodbye && !end.next) return;
      if (end.confirmed) this.failures = 0;
      if (!end.next) await sleep(this.#backoff(end));
    }
  }

  // Takes no more commands; `run` returns once all have ended and their results are acknowledged.
  leave(cancel = false) {
    this.leaving = true;
    if (cancel) this.#stopAll('agent_stopped');
    this.stream?.beat();
    return null;
  }

  // A server has answered what was sent `age` seconds ago.
  proven(age) {
    clearTimeout(this.orphanTimer);
    if (this.orphanAfter === 0) return;
    this.orphanTimer = setTimeout(() => this.#stopAll('orphaned'), (this.orphanAfter - age) * 1000);
  }

  #stopAll(cause) {
    for (const held of this.held.values()) if (held.type !== 'STOP') held.stop(cause);
  }

  // A connection to a server that says it is ready, looked for from `after` seconds on while `wanted` says so.
  async elsewhere(after, wanted) {
    for (await sleep(after); wanted(); await sleep(Math.random())) {
      const client = await this.#connected();
      if (client && wanted() && (await isServing(client))) return client;
      client?.close();
    }
    return null;
  }

  async #connected() {
    const client = new Gateway(this.server, grpc.credentials.createInsecure(), CHANNEL);
    const ready = (resolve) => client.waitForReady(Date.now() + CONNECT_MS, (error) => resolve(!error));
    if (await new Promise(ready)) return client;
    client.close();
    return null;
  }

  // Seconds to wait: exponential with full jitter, and no longer than the server says.
  #backoff({ draining, retryAfter = Infinity }) {
    if (draining) return Math.random();
    this.failures += 1;
    return Math.min(Math.random() * Math.min(2 ** (this.failures - 1), 60), retryAfter);
  }

  // Commands

  start(held, command, maxResultBytes) {
    const timer = setTimeout(() => held.stop('time_limit'), timerMs(command.time_limit));
    if (command.idle_limit) held.watch(timerMs(command.idle_limit));
    this.#outcome(held, command, maxResultBytes).then((outcome) => {
      clearTimeout(timer);
      clearTimeout(held.idle);
      this.end(held, { ...held.names, ...outcome, output_bytes: held.end - held.base });
    });
  }

  end(held, result) {
    held.result = result;
    if (held.disowned) this.forget(held, false);
    else if (!held.control) this.journal.note({ ended: result });
    this.stream?.ended(held);
  }

  forget(held, again) {
    this.held.delete(held.id);
    this.suspects.delete(held.id);
    if (!held.control) this.journal.note({ forgotten: held.id, again });
  }

  replaceRejected(held, details) {
    this.end(held, { ...held.result, data: null, ...failed('result_rejected', details) });
  }

  #restore(id, { lease, type, result }) {
    const held = new Held(id, lease, type);
    held.result = result ?? { ...held.names, ...failed('outcome_unknown', 'the agent was restarted while it ran') };
    this.held.set(id, held);
  }

  async #outcome(held, command, maxResultBytes) {
    const output = (data) =>
      held.write(Buffer.from(data), () => this.stream?.maxOutput ?? 0, () => this.stream?.wake());
    try {
      held.signal.throwIfAborted();
      const params = fromStruct(command.params);
      const data = await this.handlers[held.type](params, { id: held.id, signal: held.signal, output });
      const bytes = Buffer.byteLength(JSON.stringify(data ?? null));
      if (bytes > maxResultBytes) return failed('result_too_large', `the result has ${bytes} bytes`);
      return { status: 'COMMAND_STATUS_COMPLETED', data: toValue(data) };
    } catch (error) {
      const code = REASON_CODE.test(error?.code) ? error.code : 'handler_error'; // A system error has another one.
      if (!held.cause) return failed(code, String(error?.message ?? error), error?.transient);
      const limits = ['time_limit', 'idle_limit', 'orphaned'];
      const status = limits.includes(held.cause) ? 'COMMAND_STATUS_TIMEOUT' : 'COMMAND_STATUS_CANCELLED';
      return { status, reason: { code: held.cause } };
    }
  }
}

// Milliseconds of a limit, as far as a timer goes; no limit is the longest.
function timerMs(duration) {
  return Math.min(toSeconds(duration) * 1000 || LONGEST_TIMER_MS, LONGEST_TIMER_MS);
}

function failed(code, message, transient = false) {
  return { status: 'COMMAND_STATUS_FAILED', reason: { code, message: message.slice(0, 1024) }, transient };
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
