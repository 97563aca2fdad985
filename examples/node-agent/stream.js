'use strict';
// One stream, from Hello to its end. A message is handled as a whole: the journal is synced, then answers are sent,
// then handlers are called. docs/protocol.md has the rules.

const fs = require('node:fs');
const zlib = require('node:zlib');
const grpc = require('@grpc/grpc-js');
const { Held, slotsOf } = require('./held');
const { Gateway, errorDetails, toDuration, toSeconds } = require('./protocol');

const MOST_PARTS = 20; // of each kind in a message
const CONTROL_ROOM = 4;
const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;
const GOODBYE_MS = 5_000;

// Seconds of a clock that never goes back and counts while the host sleeps.
const now = () => Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]);

class Stream {
  constructor(agent, client) {
    Object.assign(this, { agent, client, open: false, confirmed: false, goodbye: false, draining: false, next: null });
    this.parts = { received: [], started: [], refused: [], cancel_reports: [] };
    this.results = new Set(); // to send
    this.unanswered = new Set(); // sent, not acknowledged
    this.sequence = 0;
    this.beatWaits = false;
    this.sentAt = new Map([[0, now()]]); // of each heartbeat; the Hello counts as 0
    this.heardAt = now();
  }

  // Returns how it ended.
  run() {
    this.call = this.client.Connect();
    return new Promise((resolve) => {
      this.call.on('data', (message) => this.#hear(message));
      this.call.on('error', () => {}); // The status has it.
      this.call.on('status', (status) => resolve(this.#ended(status)));
      this.agent.stream = this;
      this.call.write({ hello: this.#hello() });
    });
  }

  #hello() {
    const { id, instance, journal, capacity, orphanAfter, handlers, held } = this.agent;
    const mine = [...held.values()].filter((one) => !one.disowned);
    const listed = (some) => some.map((one) => ({ ...one.names, output_offset: one.end - one.base }));
    return {
      agent_id: id,
      instance_id: instance,
      journal_id: journal.id,
      capacity,
      types: Object.keys(handlers),
      running: listed(mine.filter((one) => !one.result)),
      unacknowledged: listed(mine.filter((one) => one.result)),
      agent_version: 'node-agent/1',
      orphan_after: orphanAfter > 0 ? toDuration(orphanAfter) : null,
      accepts_gzip: true,
    };
  }

  #ended({ code, details, metadata }) {
    clearInterval(this.ticker);
    this.agent.stream = null;
    const { reason, retryAfter } = errorDetails(metadata);
    const { confirmed, goodbye, next } = this;
    const invalid = code === grpc.status.INVALID_ARGUMENT;
    const unreadable = ['MALFORMED_MESSAGE', 'NESTED_TOO_DEEP'].includes(reason) || details.includes('results');
    if ((invalid && unreadable) || (code === grpc.status.RESOURCE_EXHAUSTED && !reason)) this.#suspectResults(details);
    const fatal = invalid && ['INVALID_AGENT_ID', 'INVALID_HELLO'].includes(reason);
    return { retryAfter, fatal, details, confirmed, goodbye, next, draining: this.draining || reason === 'DRAINING' };
  }

  // A result may have ended the stream. One is replaced by a failure; of several, each is sent alone from now on.
  #suspectResults(details) {
    if (this.unanswered.size > 1) this.agent.suspects = new Set([...this.unanswered].map((held) => held.id));
    else for (const held of this.unanswered) this.agent.replaceRejected(held, details);
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
    if (message.probe) this.beat(); // Another instance claims this agent's id.
    message.cancels.forEach((cancel) => this.#cancel(cancel));
    message.result_acks.forEach((ack) => this.#resultAcknowledged(ack));
    message.output_acks.forEach((ack) => this.#outputAcknowledged(ack));
    if (message.commands) this.#commands(message.commands);
    if (message.drain) this.#move(toSeconds(message.drain.reconnect_after));
    if (message.stop) this.agent.leave();
    this.wake();
  }

  #welcome({ heartbeat_interval: interval, start_within: startWithin, limits, verdicts }) {
    this.open = true;
    this.#heard(0);
    this.interval = toSeconds(interval) || 10;
    this.startWithin = toSeconds(startWithin);
    this.maxResult = limits?.max_result_bytes || 262_144;
    this.maxChunk = limits?.max_output_chunk_bytes || 65_536;
    this.maxOutput = limits?.max_unacknowledged_output_bytes || 262_144;
    const verdictOf = new Map(verdicts.map((verdict) => [verdict.command_id, verdict]));
    for (const held of [...this.agent.held.values()]) if (!held.disowned) this.#reconcile(held, verdictOf.get(held.id));
    this.ticker = setInterval(() => this.#tick(), this.interval * 1000);
    this.beat(); // At once, as after a late Welcome nothing is fresh until a heartbeat is answered.
  }

  // The server has answered a heartbeat, or the Hello (0).
  #heard(sequence) {
    this.heardAt = now();
    if (this.sentAt.has(sequence)) this.agent.proven(this.heardAt - this.sentAt.get(sequence));
  }

  #reconcile(held, verdict) {
    const stored = verdict?.verdict === 'VERDICT_STORED';
    if (stored || verdict?.verdict === 'VERDICT_STOP') {
      this.results.delete(held);
      if (held.result) return this.agent.forget(held, stored && held.result.transient);
      if (held.waiting) return this.agent.forget(held, true);
      held.disowned = true;
      return held.stop('cancelled');
    }
    held.rewind(verdict?.output_offset ?? 0);
    if (held.result) this.results.add(held);
    if (held.waiting) {
      held.waiting.freshUntil = this.sentAt.get(0) + this.startWithin; // The server knows of it by this Hello.
      this.#startIfFresh(held.names);
    }
  }

  #cancel({ command_id: id, lease_id: lease }) {
    const held = this.agent.held.get(id);
    const mine = held && !held.disowned && (!lease || lease === held.lease);
    const finding = mine ? 'CANCEL_FINDING_STOPPING' : 'CANCEL_FINDING_UNKNOWN';
    this.parts.cancel_reports.push({ command_id: id, lease_id: lease, finding });
    if (mine) held.stop('cancelled');
  }

  #resultAcknowledged({ command_id: id, lease_id: lease, verdict }) {
    const held = this.agent.held.get(id);
    if (!held?.result || lease !== held.lease) return;
    this.results.delete(held);
    this.unanswered.delete(held);
    this.agent.forget(held, verdict === 'RESULT_VERDICT_STORED' && held.result.transient);
  }

  #outputAcknowledged({ command_id: id, lease_id: lease, offset, reason }) {
    const held = this.agent.held.get(id);
    if (!held || lease !== held.lease) return;
    if (!reason) return held.acknowledge(offset);
    held.suspended = true;
    if (reason.code === 'stale_lease') return;
    held.discardOutput();
    held.stop('cancelled');
  }

  #commands({ assignments, after_heartbeat: afterHeartbeat }) {
    const fresh = assignments.map((one) => this.#assigned(one, afterHeartbeat)).filter((held) => held && !held.control);
    try {
      this.agent.journal.write(...fresh.map(({ id, lease, type }) => ({ received: { id, lease, type } })));
    } catch (error) {
      console.error('refusing commands, the journal cannot be written:', error.message);
      fresh.filter((held) => held.waiting).forEach((held) => this.#takeBack(held));
    }
  }

  // A command without an entry in the journal must not be started.
  #takeBack(held) {
    this.agent.held.delete(held.id);
    this.parts.received = this.parts.received.filter((names) => names.command_id !== held.id);
    this.#refuse(held.names, 'BUSY');
  }

  // Returns the command if it is new and will be started.
  #assigned({ command, lease_id: lease_id }, afterHeartbeat) {
    const { agent, parts } = this;
    const names = { command_id: command.command_id, lease_id };
    const held = agent.held.get(command.command_id);
    if (held && !held.disowned) return this.#deliveredAgain(held, names);
    const freshUntil = this.sentAt.get(afterHeartbeat) + this.startWithin;
    const refusal = this.#refusal(command, held, freshUntil);
    if (refusal) return this.#refuse(names, refusal);
    const added = new Held(command.command_id, lease_id, command.type, command.slots || 1);
    added.waiting = { command, freshUntil };
    agent.held.set(added.id, added);
    parts.received.push(names);
    return added;
  }

  #deliveredAgain(held, names) {
    if (names.lease_id === held.lease) return null;
    held.renew(names.lease_id);
    if (held.result) held.result = { ...held.result, ...names, output_bytes: held.end - held.base };
    if (held.result) this.results.add(held);
    this.parts.received.push(names);
    if (!held.waiting) this.parts.started.push(names);
    return held;
  }

  #refusal({ command_id: id, type, slots }, held, freshUntil) {
    const { agent } = this;
    if (held || agent.journal.done.has(id)) return 'DUPLICATE';
    if (!id || !Object.hasOwn(agent.handlers, type)) return 'UNSUPPORTED';
    if (!(now() < freshUntil)) return 'STALE';
    const controls = [...agent.held.values()].filter((one) => one.control).length;
    if (type === 'PING' || type === 'STOP') return controls < CONTROL_ROOM ? '' : 'BUSY';
    return agent.leaving || agent.busy + (slots || 1) > agent.capacity ? 'BUSY' : '';
  }

  #refuse(names, refusal) {
    this.parts.refused.push({ ...names, code: `REFUSAL_CODE_${refusal}` });
    if (refusal === 'STALE') this.beat(); // So that the next delivery is fresh.
    return null;
  }

  // The server drains: go on here until another connection is ready.
  async #move(after) {
    this.draining = true;
    const next = await this.agent.elsewhere(after, () => this.agent.stream === this && !this.goodbye);
    if (this.agent.stream !== this || this.goodbye) return next?.close();
    this.next = next;
    this.wake();
  }

  // To the server

  ended(held) {
    if (!held.disowned) this.results.add(held);
    if (held.disowned || this.agent.leaving) this.beat();
    this.wake();
  }

  beat() {
    this.beatWaits = true;
    this.wake();
  }

  #tick() {
    if (now() - this.heardAt >= 3 * this.interval) this.call.cancel();
    else this.beat();
  }

  // Sends what is ready, once everything that happens now has happened.
  wake() {
    this.waking ??= setImmediate(() => this.#flush());
  }

  #flush() {
    this.waking = null;
    if (!this.open || this.goodbye || this.agent.stream !== this) return;
    for (let message; (message = this.#take()); ) this.#write(message);
    if (!this.next && !(this.agent.leaving && this.agent.held.size === 0)) return;
    this.goodbye = true;
    this.call.write({ goodbye: { reason: this.next ? 'the server drains' : 'leaving' } });
    this.call.end();
    setTimeout(() => this.call.cancel(), GOODBYE_MS).unref();
  }

  #write(message) {
    // Handlers are called once their Received is on its way: one that blocks must not cause a redelivery.
    this.call.write(message, () => (message.received ?? []).forEach((names) => this.#startIfFresh(names)));
  }

  // The next message, with at most 20 parts of each kind; null if nothing is ready.
  #take() {
    const message = {};
    if (this.beatWaits) message.heartbeat = this.#heartbeat();
    for (const name of Object.keys(this.parts).filter((one) => this.parts[one].length > 0)) {
      message[name] = this.parts[name].splice(0, MOST_PARTS);
    }
    const output = this.#takeOutput();
    const results = output.length < MOST_PARTS ? this.#takeResults() : [];
    if (output.length > 0) message.output = output;
    if (results.length > 0) message.results = results;
    return Object.keys(message).length > 0 ? message : null;
  }

  #heartbeat() {
    const { agent } = this;
    this.beatWaits = false;
    this.sequence += 1;
    for (const [sequence, at] of this.sentAt) if (now() - at > this.startWithin) this.sentAt.delete(sequence);
    this.sentAt.set(this.sequence, now());
    // Commands whose Received comes later in this message do not count yet.
    const later = this.parts.received.map((names) => agent.held.get(names.command_id));
    const pending = slotsOf(later.filter((held) => held?.waiting && !held.control));
    const credit = agent.leaving ? 0 : Math.max(0, agent.capacity - agent.busy + pending);
    return { sequence: this.sequence, credit, running: agent.busy - pending, draining: agent.leaving };
  }

  #takeOutput() {
    const taken = [];
    for (const held of this.agent.held.values()) {
      if (held.disowned) continue;
      for (const piece of held.pieces(this.maxChunk, this.maxOutput)) {
        taken.push(piece);
        if (taken.length === MOST_PARTS) return taken;
      }
    }
    return taken;
  }

  #takeResults() {
    const taken = [];
    for (const held of this.results) {
      const { suspects } = this.agent;
      if (suspects.has(held.id) && [...this.unanswered].some((other) => suspects.has(other.id))) continue;
      if (!held.suspended && held.sent < held.end) continue; // Output comes before the result.
      this.results.delete(held);
      this.unanswered.add(held);
      taken.push(held.result);
      if (taken.length === MOST_PARTS) break;
    }
    return taken;
  }

  #startIfFresh(names) {
    const held = this.agent.held.get(names.command_id);
    if (held?.waiting && held.lease === names.lease_id) {
      if (now() < held.waiting.freshUntil) this.#start(held);
      else {
        this.agent.forget(held, true);
        this.#refuse(names, 'STALE');
      }
    }
    this.wake();
  }

  #start(held) {
    const { command } = held.waiting;
    held.waiting = null;
    if (!held.signal.aborted) this.parts.started.push(held.names);
    this.agent.start(held, command, this.maxResult);
  }
}

function unpacked(gzip) {
  const plain = zlib.gunzipSync(gzip, { maxOutputLength: MAX_MESSAGE_BYTES });
  return Gateway.service.Connect.responseDeserialize(plain);
}

module.exports = { Stream };
