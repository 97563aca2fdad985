/** What commands do, on one short line, as far as the page came to know it: it sent them, or opened them. */

import { paramsLine } from "./format.js";
import { bound } from "./store.js";

const MOST_LINES = 1_000;
const LINE_CHARACTERS = 60;

export class CommandLines {
  constructor() {
    /** @type {Map<string, string>} */
    this.lines = new Map();
  }

  /** @param {string} commandId @param {Record<string, any> | null | undefined} params */
  learn(commandId, params) {
    if (!params || this.lines.has(commandId)) return;
    const line = paramsLine(params);
    this.lines.set(commandId, line.length > LINE_CHARACTERS ? `${line.slice(0, LINE_CHARACTERS - 1)}…` : line);
    bound(this.lines, MOST_LINES);
  }

  /** Empty where it is not known, or there are no params. @param {string} commandId */
  of(commandId) {
    return this.lines.get(commandId) ?? "";
  }
}
