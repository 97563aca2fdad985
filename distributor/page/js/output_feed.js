/**
 * Assembles the output of one command: each byte once, in order, despite repeats and gaps.
 * Pure: returns the pieces to show and the offsets to subscribe to again.
 *
 * @typedef {{bytes: Uint8Array, stream: string} | {note: string}} Piece  to show
 * @typedef {Piece | {again: number}} Step  show it, or subscribe again from an offset
 */

import { bytes as formatBytes } from "./format.js";

const encoder = new TextEncoder();

export class OutputFeed {
  /** @param {string} commandId */
  constructor(commandId) {
    this.commandId = commandId;
    /** Offset of the next byte. */
    this.next = 0;
    /** @type {Record<string, number>} bytes of each stream */
    this.received = { stdout: 0, stderr: 0 };
    this.missing = 0;
  }

  /**
   * @param {import("./protocol.js").Message} message  `terminal:output` or `gap` of this command
   * @returns {Step[]}
   */
  accept(message) {
    return message.type === "gap" ? this.gap(message) : this.output(message);
  }

  /** @param {import("./protocol.js").Message} message @returns {Step[]} */
  output({ offset, data, encoding, stream }) {
    const bytes = encoding === "base64" ? fromBase64(data) : encoder.encode(data);
    const end = offset + bytes.length;
    // Beyond the next byte: requested bytes of a gap arrive first.
    if (offset > this.next || end <= this.next) return [];
    const fresh = bytes.subarray(this.next - offset);
    this.next = end;
    this.received[stream] += fresh.length;
    return [{ bytes: fresh, stream }];
  }

  /** @param {import("./protocol.js").Message} message @returns {Step[]} */
  gap({ beginOffset: begin, endOffset: end, reason }) {
    if (end <= this.next) return [];
    // The store may still have the bytes; if not, it reports another gap.
    if (reason === "slow") return [{ again: Math.max(begin, this.next) }];
    const lost = end - Math.max(begin, this.next);
    this.next = end;
    this.missing += lost;
    return [{ note: `${formatBytes(lost)} of output no longer stored` }];
  }
}

/** @param {string} text */
function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
