'use strict';
// One command that the agent holds: from its Received until its result is acknowledged.

class Held {
  constructor(id, lease, type, slots = 1) {
    Object.assign(this, { id, lease, type, slots }); // slots: how much of the capacity it uses
    this.control = type === 'PING' || type === 'STOP';
    this.result = null; // once the handler has ended
    this.disowned = false; // the server gave it to nobody or another: stop it, and say nothing more about it
    this.waiting = null; // its command and until when it is fresh, while its handler is not called
    this.stopping = new AbortController();
    this.cause = ''; // why it is stopped: cancelled, agent_stopped, time_limit, idle_limit or orphaned
    this.idle = null; // the timer of its idle limit
    this.blocked = false; // whether its output waits for acknowledgements
    // Output is kept from the first unacknowledged byte on. Offsets count over all leases; on the wire, from `base`.
    this.kept = Buffer.alloc(0);
    this.safe = 0;
    this.sent = 0;
    this.base = 0;
    this.suspended = false; // the lease no longer counts: wait for the next
    this.room = () => {};
  }

  get end() {
    return this.safe + this.kept.length;
  }

  get signal() {
    return this.stopping.signal;
  }

  stop(cause) {
    if (this.result) return;
    this.cause ||= cause;
    this.stopping.abort();
    this.room();
  }

  // Adds output. Waits while as much as `limit()` allows is unacknowledged; rejects once the command must stop.
  async write(data, limit, written) {
    while (data.length > 0) {
      this.signal.throwIfAborted();
      const few = data.subarray(0, Math.max(0, limit() - this.kept.length));
      data = data.subarray(few.length);
      this.kept = Buffer.concat([this.kept, few]);
      this.blocked = few.length === 0;
      if (this.blocked) await new Promise((resolve) => (this.room = resolve));
      else written();
      this.idle?.refresh();
    }
    this.blocked = false;
  }

  // Stops the command once it gives no sign of life for so long; one whose output waits is not silent.
  watch(idleMs) {
    this.idle = setTimeout(() => (this.blocked ? this.idle.refresh() : this.stop('idle_limit')), idleMs);
  }

  // The next pieces to send: whole, in order, at most `limit` bytes beyond what is acknowledged.
  *pieces(chunkBytes, limit) {
    const end = Math.min(this.end, this.safe + limit);
    while (!this.suspended && this.sent < end) {
      const data = this.kept.subarray(this.sent - this.safe, Math.min(this.sent + chunkBytes, end) - this.safe);
      this.sent += data.length;
      yield { ...this.names, stream: 'OUTPUT_STREAM_STDOUT', offset: this.sent - data.length - this.base, data };
    }
  }

  acknowledge(offset) {
    const safe = Math.min(Math.max(this.safe, this.base + offset), this.sent);
    this.kept = this.kept.subarray(safe - this.safe);
    this.safe = safe;
    this.room();
  }

  // After a reconnect: send again from an offset, or from the first byte that is still here.
  rewind(offset) {
    this.acknowledge(offset);
    this.sent = this.safe;
    this.suspended = false;
  }

  // Under a new lease, offsets begin at 0 with the first unacknowledged byte.
  renew(lease) {
    this.lease = lease;
    this.base = this.sent = this.safe;
    this.suspended = false;
  }

  // Keeps none of it, and sends none.
  discardOutput() {
    this.sent = this.safe = this.end;
    this.kept = Buffer.alloc(0);
    this.room();
  }

  get names() {
    return { command_id: this.id, lease_id: this.lease };
  }
}

// How much of the agent's capacity these commands use together.
function slotsOf(commands) {
  return commands.reduce((sum, held) => sum + held.slots, 0);
}

module.exports = { Held, slotsOf };
