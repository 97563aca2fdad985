/**
 * Buffer of the output received for one command, replayed to screens opened later. Bounded: the oldest pieces are
 * dropped first.
 *
 * @typedef {import("./output_feed.js").Piece} Piece
 */

const MAX_BYTES = 4 * 1024 * 1024;

export class OutputRecord {
  /** @param {number} [most]  maximum bytes kept */
  constructor(most = MAX_BYTES) {
    this.most = most;
    /** @type {Piece[]} */
    this.pieces = [];
    this.bytes = 0;
    /** Number of bytes dropped. */
    this.dropped = 0;
  }

  /** @param {Piece} piece */
  push(piece) {
    this.pieces.push(piece);
    this.bytes += sizeOf(piece);
    while (this.bytes > this.most && this.pieces.length > 1) {
      const size = sizeOf(/** @type {Piece} */ (this.pieces.shift()));
      this.bytes -= size;
      this.dropped += size;
    }
  }
}

/** @param {Piece} piece */
const sizeOf = (piece) => ("bytes" in piece ? piece.bytes.length : 0);
