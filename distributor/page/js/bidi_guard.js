/**
 * Escapes bidirectional control characters in output. The terminal gives them no cell, but the browser would still
 * reorder the line.
 */

import { visible } from "./foreign_text.js";

/** As UTF-8: marks, embeddings, overrides and isolates. */
const CHARACTERS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069";
const encoder = new TextEncoder();
const ESCAPES = new Map([...CHARACTERS].map((char) => [String(encoder.encode(char)), encoder.encode(visible(char))]));
const TWO_BYTES = 0xd8;
const THREE_BYTES = 0xe2;
const NOTHING = new Uint8Array();

export class BidiGuard {
  constructor() {
    this.partial = NOTHING;
    this.stream = "";
  }

  /**
   * Escapes bidi controls in these bytes. Buffers an incomplete character until its rest arrives, unless the other
   * stream comes first.
   * @param {Uint8Array} bytes @param {string} stream
   * @returns {Uint8Array}
   */
  escape(bytes, stream) {
    const all = [...(stream === this.stream ? [this.partial] : []), bytes];
    const torn = stream === this.stream ? NOTHING : this.partial;
    const joined = all.length > 1 && all[0].length ? concat(all) : bytes;
    const end = joined.length - incompleteTail(joined);
    this.partial = joined.slice(end);
    this.stream = stream;
    const parts = torn.length ? [torn] : [];
    let from = 0;
    for (let at = 0; at < end; at += 1) {
      const length = joined[at] === THREE_BYTES ? 3 : joined[at] === TWO_BYTES ? 2 : 0;
      const escaped = length && ESCAPES.get(String(joined.subarray(at, at + length)));
      if (!escaped) continue;
      parts.push(joined.subarray(from, at), escaped);
      from = at + length;
      at = from - 1;
    }
    parts.push(joined.subarray(from, end));
    return parts.length === 1 ? parts[0] : concat(parts);
  }
}

/** Number of trailing bytes that may start such a character. @param {Uint8Array} bytes */
function incompleteTail(bytes) {
  const last = bytes[bytes.length - 1];
  if (last === TWO_BYTES || last === THREE_BYTES) return 1;
  return (last === 0x80 || last === 0x81) && bytes[bytes.length - 2] === THREE_BYTES ? 2 : 0;
}

/** @param {Uint8Array[]} parts */
function concat(parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
