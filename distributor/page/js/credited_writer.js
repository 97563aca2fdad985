/**
 * Writes bytes to a sink at the sink's pace, one write at a time. The queue is bounded: beyond the limit the oldest
 * bytes are dropped and a mark shows how many.
 */

const WRITE_BYTES = 32 * 1024;
const QUEUE_BYTES = 4 * 1024 * 1024;

export class CreditedWriter {
  /**
   * @param {(bytes: Uint8Array, done: () => void) => void} write
   * @param {(dropped: number) => Uint8Array} mark  placeholder for a number of dropped bytes
   * @param {number} [limit] maximum queued bytes
   */
  constructor(write, mark, limit = QUEUE_BYTES) {
    this.write = write;
    this.mark = mark;
    this.limit = limit;
    /** @type {Uint8Array[]} */
    this.waiting = [];
    this.queuedBytes = 0;
    this.dropped = 0;
    this.busy = false;
    /** @type {(() => void)[]} */
    this.onIdle = [];
  }

  /** Resolves once the sink has taken everything pushed so far. @returns {Promise<void>} */
  idle() {
    return new Promise((resolve) => {
      this.onIdle.push(resolve);
      this.next();
    });
  }

  /** @param {Uint8Array} bytes */
  push(bytes) {
    this.waiting.push(bytes);
    this.queuedBytes += bytes.length;
    while (this.queuedBytes > this.limit && this.waiting.length > 1) this.dropOldest();
    this.next();
  }

  dropOldest() {
    const oldest = /** @type {Uint8Array} */ (this.waiting.shift());
    this.queuedBytes -= oldest.length;
    this.dropped += oldest.length;
  }

  next() {
    if (this.busy) return;
    if (!this.waiting.length) return this.onIdle.splice(0).forEach((resolve) => resolve());
    this.busy = true;
    this.write(this.take(), () => {
      this.busy = false;
      this.next();
    });
  }

  take() {
    if (this.dropped) {
      const mark = this.mark(this.dropped);
      this.dropped = 0;
      return mark;
    }
    const first = this.waiting[0];
    const piece = first.subarray(0, WRITE_BYTES);
    if (piece.length < first.length) this.waiting[0] = first.subarray(WRITE_BYTES);
    else this.waiting.shift();
    this.queuedBytes -= piece.length;
    return piece;
  }
}
