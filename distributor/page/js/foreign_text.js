/**
 * Untrusted text from agents, callers, programs and addresses. It is isolated so that it cannot reorder the text
 * around it, and invisible characters are escaped as on the command line.
 */

import { h } from "./dom.js";

/**
 * Control, format (including bidi) and private-use characters, lone surrogates, separators other than the space, and
 * invisible letters.
 */
const INVISIBLE =
  /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u034f\u115f\u1160\u3164\uffa0\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/gu;
const JSON_STRING = /"(?:[^"\\]|\\.)*"/g;
const NAMED = new Map([
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

/**
 * Escapes invisible characters, for attributes and other places that take plain strings only.
 * @param {string} text
 */
export function visible(text) {
  return escapeWith(text, escape);
}

/**
 * Replaces invisible characters with the caller's escapes.
 * @param {string} text @param {(char: string, code: number) => string} spell  one code point
 */
export function escapeWith(text, spell) {
  return text.replace(INVISIBLE, (char) => spell(char, /** @type {number} */ (char.codePointAt(0))));
}

/**
 * The text as an element, with escapes set off from literal backslashes.
 * @param {string} text
 * @param {import("./dom.js").Props} [props]
 */
export function foreign(text, props = {}) {
  /** @type {import("./dom.js").Child[]} */
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(INVISIBLE)) {
    parts.push(text.slice(from, found.index), h("span", { class: "escape" }, visible(found[0])));
    from = found.index + found[0].length;
  }
  return h("bdi", props, parts, text.slice(from));
}

/**
 * A value as JSON that parses back to the same value, with invisible characters as JSON escapes.
 * @param {unknown} value
 */
export function visibleJson(value) {
  const text = JSON.stringify(value, null, 2) ?? "null";
  return escapeWith(text, (char) => (char === "\n" ? char : units(char)));
}

/**
 * The same as elements: each string that may contain right-to-left text is isolated from the surrounding JSON.
 * @param {unknown} value
 * @returns {import("./dom.js").Child[]}
 */
export function foreignJson(value) {
  const text = visibleJson(value);
  /** @type {import("./dom.js").Child[]} */
  const parts = [];
  let from = 0;
  for (const { index, 0: string } of text.matchAll(JSON_STRING)) {
    if (!/[^\n -~]/.test(string)) continue;
    parts.push(text.slice(from, index), h("bdi", null, string));
    from = index + string.length;
  }
  return [...parts, text.slice(from)];
}

/** @param {string} char  one code point @param {number} code */
function escape(char, code) {
  if (code < 0x100) return NAMED.get(char) ?? `\\x${hex(code, 2)}`;
  return code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
}

/** UTF-16 code units as JSON escapes. @param {string} char */
const units = (char) =>
  Array.from({ length: char.length }, (_, at) => `\\u${hex(char.charCodeAt(at), 4)}`).join("");

/** @param {number} code @param {number} digits */
export const hex = (code, digits) => code.toString(16).padStart(digits, "0");
