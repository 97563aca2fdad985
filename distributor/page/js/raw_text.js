/**
 * Output as it was printed, as text from which every byte can be recovered. Lines break where the program broke them;
 * everything else that cannot be seen is an escape: `\x1b` for a byte, `\u202e` for a character, `\\` for a backslash.
 */

import { hex, spelt } from "./foreign_text.js";

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class RawText {
  constructor() {
    /** The beginning of a character, by stream. @type {Map<string, Uint8Array>} */
    this.begun = new Map();
  }

  /**
   * The text of these bytes; a character that is not whole yet waits for its rest.
   * @param {Uint8Array} bytes @param {string} stream
   */
  add(bytes, stream) {
    const all = joined(this.begun.get(stream), bytes);
    const end = all.length - unfinished(all);
    this.begun.set(stream, all.subarray(end));
    return textOf(all.subarray(0, end));
  }

  /** What still waits, at the end. */
  rest() {
    const left = [...this.begun.values()].map(bytesSpelt).join("");
    this.begun.clear();
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

/** How many bytes at the end begin a character without ending it. @param {Uint8Array} bytes */
function unfinished(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const length = lengthAt(bytes, bytes.length - back);
    if (length) return length > back ? back : 0;
  }
  return 0;
}

/** How long a character is that begins here; 0 where none does. @param {Uint8Array} bytes @param {number} at */
function lengthAt(bytes, at) {
  const byte = bytes[at];
  if (byte < 0x80) return 1;
  if (byte < 0xc2 || byte > 0xf4) return 0;
  return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/** @param {Uint8Array} bytes */
function textOf(bytes) {
  const whole = decoded(bytes);
  if (whole !== null) return charactersSpelt(whole);
  let text = "";
  let from = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = lengthAt(bytes, at);
    if (length === 1 || (length && decoded(bytes.subarray(at, at + length)) !== null)) at += length;
    else {
      text += charactersSpelt(/** @type {string} */ (decoded(bytes.subarray(from, at)))) + bytesSpelt([bytes[at]]);
      from = at += 1;
    }
  }
  return text + charactersSpelt(/** @type {string} */ (decoded(bytes.subarray(from))));
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
const charactersSpelt = (text) =>
  spelt(text.replaceAll("\\", "\\\\"), (char, code) => {
    if (char === "\n") return char;
    if (char === "\r" || char === "\t") return char === "\r" ? "\\r" : "\\t";
    if (code < 0x80) return `\\x${hex(code, 2)}`;
    return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
  });

/** @param {Iterable<number>} bytes */
const bytesSpelt = (bytes) => Array.from(bytes, (byte) => `\\x${hex(byte, 2)}`).join("");
