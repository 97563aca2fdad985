/**
 * Renders raw output as text from which every byte can be recovered. Newlines stay; other invisible characters are
 * escaped: `\x1b` for a byte, `\u202e` for a character, `\\` for a backslash.
 */

import { hex, escapeWith } from "./foreign_text.js";

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class RawText {
  constructor() {
    /** Incomplete character by stream. @type {Map<string, Uint8Array>} */
    this.partial = new Map();
  }

  /**
   * Decodes these bytes; buffers an incomplete character until its rest arrives.
   * @param {Uint8Array} bytes @param {string} stream
   */
  add(bytes, stream) {
    const all = joined(this.partial.get(stream), bytes);
    const end = all.length - incompleteTail(all);
    this.partial.set(stream, all.subarray(end));
    return textOf(all.subarray(0, end));
  }

  /** Escapes and returns the buffered bytes at the end of output. */
  rest() {
    const left = [...this.partial.values()].map(escapeBytes).join("");
    this.partial.clear();
    return left;
  }
}

/** @param {Uint8Array | undefined} one @param {Uint8Array} other */
function joined(one, other) {
  if (!one?.length) return other;
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

/** Number of trailing bytes that form an incomplete character. @param {Uint8Array} bytes */
function incompleteTail(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const length = lengthAt(bytes, bytes.length - back);
    if (length) return length > back ? back : 0;
  }
  return 0;
}

/** Length in bytes of the character starting here; 0 if none does. @param {Uint8Array} bytes @param {number} at */
function lengthAt(bytes, at) {
  const byte = bytes[at];
  if (byte < 0x80) return 1;
  if (byte < 0xc2 || byte > 0xf4) return 0;
  return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/** @param {Uint8Array} bytes */
function textOf(bytes) {
  const whole = decoded(bytes);
  if (whole !== null) return escapeCharacters(whole);
  let text = "";
  let from = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = lengthAt(bytes, at);
    if (length === 1 || (length && decoded(bytes.subarray(at, at + length)) !== null)) at += length;
    else {
      text += escapeCharacters(/** @type {string} */ (decoded(bytes.subarray(from, at)))) + escapeBytes([bytes[at]]);
      from = at += 1;
    }
  }
  return text + escapeCharacters(/** @type {string} */ (decoded(bytes.subarray(from))));
}

/** @param {Uint8Array} bytes */
function decoded(bytes) {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

/** @param {string} text */
const escapeCharacters = (text) =>
  escapeWith(text.replaceAll("\\", "\\\\"), (char, code) => {
    if (char === "\n") return char;
    if (char === "\r" || char === "\t") return char === "\r" ? "\\r" : "\\t";
    if (code < 0x80) return `\\x${hex(code, 2)}`;
    return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
  });

/** @param {Iterable<number>} bytes */
const escapeBytes = (bytes) => Array.from(bytes, (byte) => `\\x${hex(byte, 2)}`).join("");
