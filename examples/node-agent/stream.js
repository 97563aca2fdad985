'use strict';
// One stream, from Hello to its end, and the messages as plain JavaScript. docs/protocol.md has the rules.

const fs = require('node:fs');
const path = require('node:path');
const zlib = require('node:zlib');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const PROTO = process.env.DISTRIBUTOR_PROTO || path.join(__dirname, '..', '..', 'proto');
const FORM = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true, includeDirs: [PROTO] };
const Gateway = grpc.loadPackageDefinition(loader.loadSync('distributor/v1/agent_gateway.proto', FORM)).distributor.v1
  .AgentGatewayService;

const MOST_PARTS = 20; // of each kind in a message
const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;
const GOODBYE_SECONDS = 5;
const DUPLICATE = { code: 'REFUSAL_CODE_DUPLICATE' };
const UNSUPPORTED = { code: 'REFUSAL_CODE_UNSUPPORTED' };
const STALE = { code: 'REFUSAL_CODE_STALE' };
const BUSY = { code: 'REFUSAL_CODE_BUSY' };
const HALTED = { ...BUSY, reason: { code: 'emergency_stop', message: 'an emergency stop is in force' } };
const REASON_CODE = /^[a-z][a-z0-9_]{0,63}$/;

class Stream {
  constructor(agent, client) {
    Object.assign(this, { agent, call: client.Connect(), open: false, confirmed: false, draining: false, next: null });
    Object.assign(this, { sequence: 0, beatAt: now(), heardAt: now(), interval: 10, startWithin: 0, leftAt: Infinity });
    this.sentAt = new Map([[0, now()]]); // of each heartbeat; the Hello counts as 0
    this.unanswered = new Set(); // results sent, not acknowledged
    this.haltSaid = -1; // how many commands ran when the latest Halted was sent
  }

  // Returns how it ended.
  run() {
    this.agent.stream = this;
    return new Promise((resolve) => {
      this.call.on('data', (message) => this.#hear(message));
      this.call.on('error', () => {}); // The status has it.
      this.call.on('status', (status) => resolve(this.#ended(status)));
      this.call.write({ hello: this.#hello() });
    });
  }

  #hello() {
    const { id, instance, journal, capacity, orphanAfter, handlers, held } = this.agent;
    const listed = (some) => some.map((one) => ({ ...one.names, output_offset: one.end }));
    return {
      agent_id: id,
      instance_id: instance,
      journal_id: journal.name,
      capacity,
      types: Object.keys(handlers),
      running: listed([...held.values()].filter((one) => !one.result)),
      unacknowledged: listed([...held.values()].filter((one) => one.result)),
      orphan_after: orphanAfter > 0 ? { seconds: Math.floor(orphanAfter), nanos: (orphanAfter % 1) * 1e9 } : null,
      accepts_gzip: true,
      halts: { stop_id: journal.halt?.stop_id ?? '' },
    };
  }

  #ended({ code, details, metadata }) {
    const { confirmed, next } = this;
    this.agent.stream = null;
    for (const held of this.agent.held.values()) this.#start(held); // Those whose Received was not written yet.
    const { reason, retryAfter } = errorDetails(metadata);
    const invalid = code === grpc.status.INVALID_ARGUMENT;
    const unreadable = ['MALFORMED_MESSAGE', 'NESTED_TOO_DEEP'].includes(reason) || details.includes('results');
    if ((invalid && unreadable) || (code === grpc.status.RESOURCE_EXHAUSTED && !reason)) this.#suspectResults(details);
    const draining = this.draining || reason === 'DRAINING';
    const left = this.leftAt < Infinity;
    return { confirmed, next, draining, retryAfter, details, left, fatal: invalid && !this.open };
  }

  // A result may have ended the stream: replace it by a failure. Of several, each is sent alone from now on.
  #suspectResults(details) {
    const [held, ...others] = this.unanswered;
    this.agent.oneByOne = others.length > 0;
    if (held && others.length === 0) this.agent.end(held, failed('result_rejected', details));
  }

  // From the server

  #hear(message) {
    try {
      this.#receive(message.gzip.length > 0 ? unpacked(message.gzip) : message);
    } catch (error) {
      console.error('dropping the stream:', error);
      this.call.cancel();
    }
  }

  #receive(message) {
    if (message.welcome && !this.open) this.#welcome(message.welcome);
    if (message.heartbeat_reply) {
      this.confirmed = true;
      this.#heard(message.heartbeat_reply.sequence);
    }
    message.cancels.forEach((cancel) => this.#cancel(cancel));
    message.result_acks.forEach((ack) => this.#resultAcknowledged(ack));
    message.output_acks.forEach((ack) => this.#outputAcknowledged(ack));
    if (message.commands) this.#commands(message.commands);
    if (message.drain) this.#move(seconds(message.drain.reconnect_after));
    if (message.stop) this.agent.leave();
    if (message.probe) this.beat();
    if (message.halt) this.#halt(message.halt);
    if (message.resume) this.#resume();
    this.flush();
  }

  #welcome({ heartbeat_interval: interval, start_within: startWithin, limits, verdicts, halt }) {
    this.#heard(0);
    Object.assign(this, { open: true, interval: seconds(interval) || 10, startWithin: seconds(startWithin) });
    this.agent.limits = {
      result: limits?.max_result_bytes || 262_144,
      chunk: limits?.max_output_chunk_bytes || 65_536,
      window: limits?.max_unacknowledged_output_bytes || 262_144,
    };
    const verdictOf = new Map(verdicts.map((verdict) => [verdict.command_id, verdict]));
    for (const held of [...this.agent.held.values()]) this.#settle(held, verdictOf.get(held.id));
    if (halt) this.#halt(halt);
    this.beat(); // At once, as after a late Welcome nothing is fresh until a heartbeat is answered.
  }

  #settle(held, verdict) {
    if (verdict?.verdict === 'VERDICT_STORED') this.agent.disown(held, held.result?.transient);
    else if (verdict?.verdict === 'VERDICT_STOP') this.agent.disown(held, held.withdrawn);
    else if (held.withdrawn) this.#refuseLate(held);
    else held.rewind(verdict?.output_offset ?? 0);
  }

  // An emergency stop: ends all work and starts none until Resume.
  #halt({ stop_id, reason }) {
    this.agent.journal.note({ halt: { stop_id, reason } });
    this.haltSaid = -1;
    for (const held of this.agent.running) {
      const waits = held.command;
      if (waits) this.agent.withdraw(held);
      if (waits) this.#refuseLate(held, HALTED);
      else held.stop('emergency_stop');
    }
    this.beat();
  }

  #resume() {
    this.agent.journal.note({ halt: null });
    this.beat();
  }

  // The server has answered a heartbeat, or the Hello (0).
  #heard(sequence) {
    this.heardAt = now();
    this.agent.provenAt = this.sentAt.get(sequence) ?? this.agent.provenAt;
    const { held } = this.agent;
    for (const one of held.values()) if (one.withdrawn && sequence > one.reportedAt) this.agent.forget(one, true);
  }

  #cancel({ command_id: id, lease_id: lease }) {
    const disowned = [...this.agent.disowned].find((one) => one.id === id);
    if (disowned) disowned.cancelLease = lease; // `stopped` answers it again.
    const held = disowned ?? this.agent.held.get(id);
    const mine = held && (disowned || !lease || lease === held.lease);
    if (mine && held.command) this.agent.withdraw(held);
    const stopping = mine && !held.withdrawn;
    this.#reportCancel(id, lease, stopping ? 'STOPPING' : 'UNKNOWN');
    if (stopping) held.stop('cancelled');
    else if (mine) held.reportedAt = this.sequence;
  }

  #reportCancel(id, lease, finding) {
    this.#send({ cancel_reports: [{ command_id: id, lease_id: lease, finding: `CANCEL_FINDING_${finding}` }] });
  }

  // A command that is no longer this agent's has ended.
  stopped({ id, cancelLease }) {
    if (cancelLease !== undefined) this.#reportCancel(id, cancelLease, 'UNKNOWN');
    this.beat();
  }

  #resultAcknowledged({ command_id: id, lease_id: lease, verdict }) {
    const held = this.agent.held.get(id);
    if (!held?.result || lease !== held.lease) return;
    this.unanswered.delete(held);
    this.agent.forget(held, verdict === 'RESULT_VERDICT_STORED' && held.result.transient);
  }

  #outputAcknowledged({ command_id: id, lease_id: lease, offset, reason }) {
    const held = this.agent.held.get(id);
    if (!held || lease !== held.lease) return;
    if (!reason) return held.acknowledge(offset);
    held.suspended = true; // Until the next lease.
    if (reason.code === 'stale_lease') return;
    held.discard(); // The command has ended: its output is not wanted any more.
    held.stop('cancelled');
  }

  // The journal is synced, then answers are sent, then handlers are called.
  #commands({ assignments, after_heartbeat: afterHeartbeat }) {
    const freshUntil = this.sentAt.get(afterHeartbeat) + this.startWithin;
    let added = [];
    let refused = [];
    for (const { command, lease_id: lease } of assignments) {
      const known = this.agent.held.get(command.command_id);
      const held = known?.withdrawn && lease !== known.lease ? null : known;
      const slots = command.type === 'PING' ? 0 : command.slots || 1; // A PING has room of its own.
      const refusal = held ? null : this.#refusal(command, slots, freshUntil);
      if (held) this.#deliveredAgain(held, lease);
      else if (refusal) refused.push({ command_id: command.command_id, lease_id: lease, ...refusal });
      else added.push(this.agent.hold(command.command_id, lease, { slots, command, freshUntil }));
    }
    try {
      this.agent.journal.write(...added.map(({ id, lease }) => ({ held: { id, lease, result: null } })));
    } catch (error) {
      console.error('refusing commands, the journal cannot be written:', error.message);
      for (const { id } of added) this.agent.held.delete(id);
      refused = [...refused, ...added.map((held) => ({ ...held.names, ...BUSY }))];
      added = [];
    }
    // Handlers are called once their Received is on its way: one that blocks must not cause a redelivery.
    const received = added.map((held) => held.names);
    if (added.length > 0) this.#send({ received }, () => added.forEach((held) => this.#start(held)));
    if (refused.length > 0) this.#refuse(refused);
  }

  #deliveredAgain(held, lease) {
    if (lease === held.lease) return;
    held.renew(lease);
    this.unanswered.delete(held);
    this.#send({ received: [held.names], started: held.command ? [] : [held.names] });
  }

  #refusal({ command_id: id, type }, slots, freshUntil) {
    const { journal, handlers, leaving, busy, capacity } = this.agent;
    if (journal.done.has(id)) return DUPLICATE;
    if (!id || !Object.hasOwn(handlers, type)) return UNSUPPORTED;
    if (!(now() < freshUntil)) return STALE; // Also for a heartbeat that was never sent.
    if (slots > 0 && journal.halt) return HALTED;
    return slots > 0 && (leaving || busy + slots > capacity) ? BUSY : null;
  }

  #refuse(refused) {
    const stale = refused.some(({ code }) => code === STALE.code);
    this.#send(stale ? { heartbeat: this.#heartbeat(), refused } : { refused }); // So that the next delivery is fresh.
  }

  #start(held) {
    if (!held.command) return;
    if (now() < held.freshUntil) {
      this.#send({ started: [held.names] });
      this.agent.execute(held);
    } else {
      this.agent.withdraw(held);
      this.#refuseLate(held);
    }
  }

  // The server may have read its Received, so `agent.held` keeps it until a later heartbeat is answered.
  #refuseLate(held, refusal = STALE) {
    held.reportedAt = this.sequence + 1; // This heartbeat is with the refusal, or follows it.
    this.#refuse([{ ...held.names, ...refusal }]);
  }

  // The server drains: go on here until another connection is ready.
  async #move(after) {
    if (this.draining) return;
    this.draining = true;
    this.next = await this.agent.elsewhere(after, () => this.#isUsable());
    this.flush();
  }

  // To the server

  #isUsable() {
    return this.open && this.agent.stream === this && this.leftAt === Infinity;
  }

  #send(message, sent) {
    if (this.#isUsable()) this.call.write(message, sent);
  }

  beat() {
    if (this.#isUsable()) this.#send({ heartbeat: this.#heartbeat() });
  }

  #heartbeat() {
    const { capacity, busy, leaving, journal } = this.agent;
    for (const [sequence, at] of this.sentAt) if (now() - at > this.startWithin) this.sentAt.delete(sequence);
    Object.assign(this, { beatAt: now(), sequence: this.sequence + 1 });
    this.sentAt.set(this.sequence, this.beatAt);
    const credit = leaving || journal.halt ? 0 : Math.max(0, capacity - busy);
    const problems = journal.halt ? [HALTED.reason] : [];
    return { sequence: this.sequence, credit, running: busy, draining: leaving, problems };
  }

  tick() {
    if (now() - this.heardAt >= 3 * this.interval || now() - this.leftAt >= GOODBYE_SECONDS) this.call.cancel();
    else if (this.open && now() - this.beatAt >= this.interval) this.beat();
  }

  // Sends output and results that are ready, at most 20 in a message; then leaves, if it is time for that.
  flush() {
    if (!this.#isUsable()) return;
    for (let output; (output = this.#takeOutput()).length > 0; ) this.#send({ output });
    for (let results; (results = this.#takeResults()).length > 0; ) this.#send({ results });
    if (this.agent.journal.halt) this.#reportHalt(this.agent.journal.halt);
    if (!this.next && !(this.agent.leaving && this.agent.held.size === 0)) return;
    this.#send({ goodbye: { reason: this.next ? 'the server drains' : 'leaving' } });
    this.leftAt = now();
    this.call.end();
  }

  // Says what still runs when that has changed; that nothing does only after the last result.
  #reportHalt({ stop_id }) {
    const running = this.agent.running.map(({ id }) => ({ command_id: id }));
    const unsent = [...this.agent.held.values()].some((held) => held.result && !this.unanswered.has(held));
    if (running.length === this.haltSaid || (running.length === 0 && unsent)) return;
    this.haltSaid = running.length;
    this.#send({ halted: { stop_id, running } });
  }

  #takeOutput() {
    const { held, limits } = this.agent;
    const pieces = [];
    for (const one of held.values()) {
      let piece;
      while (pieces.length < MOST_PARTS && (piece = one.piece(limits.chunk, limits.window))) pieces.push(piece);
    }
    return pieces;
  }

  #takeResults() {
    const ready = (held) => held.result && !this.unanswered.has(held) && (held.suspended || held.sent === held.end);
    const most = this.agent.oneByOne ? 1 - Math.min(1, this.unanswered.size) : MOST_PARTS;
    const taken = [...this.agent.held.values()].filter(ready).slice(0, most);
    taken.forEach((held) => this.unanswered.add(held));
    return taken.map((held) => held.result);
  }
}

// Seconds of a clock that never goes back and counts while the host sleeps.
function now() {
  return Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
}

function unpacked(gzip) {
  const plain = zlib.gunzipSync(gzip, { maxOutputLength: MAX_MESSAGE_BYTES });
  return Gateway.service.Connect.responseDeserialize(plain);
}

function seconds(duration) {
  return duration ? duration.seconds + duration.nanos / 1e9 : 0;
}

function fromStruct(struct) {
  return Object.fromEntries(Object.entries(struct?.fields ?? {}).map(([name, value]) => [name, fromValue(value)]));
}

function fromValue(value) {
  if (value.kind === 'structValue') return fromStruct(value.structValue);
  if (value.kind === 'listValue') return value.listValue.values.map(fromValue);
  return value.kind === 'nullValue' ? null : value[value.kind];
}

function toValue(json) {
  if (json === null) return { nullValue: 'NULL_VALUE' };
  if (Array.isArray(json)) return { listValue: { values: json.map(toValue) } };
  if (typeof json !== 'object') return { [`${typeof json}Value`.replace('boolean', 'bool')]: json };
  const fields = Object.fromEntries(Object.entries(json).map(([name, one]) => [name, toValue(one)]));
  return { structValue: { fields } };
}

// The reason of a failed call, and after how many seconds to retry, if the server says so.
const errors = protobuf.parse(`syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { repeated Any details = 3; }
  message ErrorInfo { string reason = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }`).root;

function errorDetails(metadata) {
  const found = { reason: '', retryAfter: Infinity };
  const [packed] = metadata?.get('grpc-status-details-bin') ?? [];
  for (const { typeUrl, value } of packed ? errors.lookupType('Status').decode(packed).details : []) {
    const name = typeUrl.split('google.rpc.')[1];
    if (name === 'ErrorInfo') found.reason = errors.lookupType(name).decode(value).reason;
    if (name !== 'RetryInfo') continue;
    const { retryDelay: delay } = errors.lookupType(name).decode(value);
    found.retryAfter = Number(delay.seconds) + delay.nanos / 1e9;
  }
  return found;
}

// What a failed command's result says. Anything may be thrown: without a code, or with one of the operating system's.
function failed(code, message, transient) {
  const valid = typeof code === 'string' && REASON_CODE.test(code);
  const reason = { code: valid ? code : 'handler_error', message: message.slice(0, 1024) };
  return { status: 'COMMAND_STATUS_FAILED', reason, transient: transient === true };
}

module.exports = { Gateway, Stream, failed, fromStruct, now, seconds, toValue };
