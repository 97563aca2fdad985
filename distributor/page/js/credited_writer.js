/**
 * Hands bytes to a sink at its own pace. At most one write is in flight; the next begins when the sink reports that it
 * is done. The queue is bounded: beyond the bound the oldest bytes are dropped and a mark says how many.
 */

const WRITE_BYTES = 32 * 1024;
const WAITING_BYTES = 4 * 1024 * 1024;

export class CreditedWriter {
  /**
   * @param {(bytes: Uint8Array, done: () => void) => void} write
   * @param {(dropped: number) => Uint8Array} mark  what to show in place of so many bytes that were dropped
   * @param {number} [limit] bytes that may wait
   */
  constructor(write, mark, limit = WAITING_BYTES) {
    this.write = write;
    this.mark = mark;
    this.limit = limit;
    /** @type {Uint8Array[]} */
    this.waiting = [];
    this.waitingBytes = 0;
    this.dropped = 0;
    this.busy = false;
    /** @type {(() => void)[]} */
    this.onIdle = [];
  }

  /** Resolves once everything pushed so far has been taken. @returns {Promise<void>} */
  idle() {
    return new Promise((resolve) => {
      this.onIdle.push(resolve);
      this.next();
    });
  }

  /** @param {Uint8Array} bytes */
  push(bytes) {
    this.waiting.push(bytes);
    this.waitingBytes += bytes.length;
    while (this.waitingBytes > this.limit && this.waiting.length > 1) this.dropOldest();
    this.next();
  }

  dropOldest() {
    const oldest = /** @type {Uint8Array} */ (this.waiting.shift());
    this.waitingBytes -= oldest.length;
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
    this.waitingBytes -= piece.length;
    return piece;
  }
}
