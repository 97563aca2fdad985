/**
 * Marks stderr lines. Inserts the mark only at line starts, so that colours and escape sequences of the program stay
 * intact.
 */

export const STDERR_MARK = "▌";

const NEWLINE = 10;
const RETURN = 13;

export class LineMarker {
  /** @param {Uint8Array} mark */
  constructor(mark) {
    this.mark = mark;
    this.atLineStart = true;
  }

  /** Records that other text ended with a newline. */
  newLine() {
    this.atLineStart = true;
  }

  /**
   * The bytes with marks inserted. Empty lines get no mark.
   * @param {Uint8Array} bytes
   * @param {string} stream
   * @returns {Uint8Array}
   */
  marked(bytes, stream) {
    const places = stream === "stderr" ? this.lineStarts(bytes) : [];
    const last = bytes.findLast((byte) => byte !== RETURN);
    if (last !== undefined) this.atLineStart = last === NEWLINE;
    if (!places.length) return bytes;
    const shown = new Uint8Array(bytes.length + places.length * this.mark.length);
    let from = 0;
    places.forEach((place, count) => {
      shown.set(bytes.subarray(from, place), from + count * this.mark.length);
      shown.set(this.mark, place + count * this.mark.length);
      from = place;
    });
    shown.set(bytes.subarray(from), from + places.length * this.mark.length);
    return shown;
  }

  /** @param {Uint8Array} bytes */
  lineStarts(bytes) {
    const places = [];
    let atStart = this.atLineStart;
    for (let at = 0; at < bytes.length; at += 1) {
      if (bytes[at] === RETURN) continue;
      if (bytes[at] !== NEWLINE && atStart) places.push(at);
      atStart = bytes[at] === NEWLINE;
    }
    return places;
  }
}
