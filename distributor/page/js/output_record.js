/**
 * What this page received of one command's output, in order, for views that are opened later. Bounded: the oldest
 * pieces are dropped first.
 *
 * @typedef {import("./output_feed.js").Piece} Piece
 */

const MOST_BYTES = 4 * 1024 * 1024;

export class OutputRecord {
  /** @param {number} [most]  bytes that are kept */
  constructor(most = MOST_BYTES) {
    this.most = most;
    /** @type {Piece[]} */
    this.pieces = [];
    this.bytes = 0;
    /** How many bytes were dropped. */
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
