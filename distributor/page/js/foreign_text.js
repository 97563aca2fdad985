/**
 * Text that others wrote: agents, callers, programs, addresses. Shown exactly, and unable to change how the text around
 * it reads: it is isolated, and characters that cannot be seen are spelt as escapes, as the command line spells them.
 */

import { h } from "./dom.js";

/**
 * Controls, formats (bidi among them), lone surrogates, private use, separators other than the space, and letters that
 * draw nothing.
 */
const UNSEEN =
  /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u034f\u115f\u1160\u3164\uffa0\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/gu;
const JSON_STRING = /"(?:[^"\\]|\\.)*"/g;
const NAMED = new Map([
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

/**
 * The text with escapes for what cannot be seen: for attributes, and wherever there is no room for an element.
 * @param {string} text
 */
export function visible(text) {
  return spelt(text, escape);
}

/**
 * The text with words of the caller's for what cannot be seen.
 * @param {string} text @param {(char: string, code: number) => string} spell  one code point
 */
export function spelt(text, spell) {
  return text.replace(UNSEEN, (char) => spell(char, /** @type {number} */ (char.codePointAt(0))));
}

/**
 * The text as an element, the escapes set apart from the same characters in the text itself.
 * @param {string} text
 * @param {import("./dom.js").Props} [props]
 */
export function foreign(text, props = {}) {
  /** @type {import("./dom.js").Child[]} */
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(UNSEEN)) {
    parts.push(text.slice(from, found.index), h("span", { class: "escape" }, visible(found[0])));
    from = found.index + found[0].length;
  }
  return h("bdi", props, parts, text.slice(from));
}

/**
 * A value as JSON that reads back as the same value, what cannot be seen as JSON's own escapes.
 * @param {unknown} value
 */
export function visibleJson(value) {
  const text = JSON.stringify(value, null, 2) ?? "null";
  return spelt(text, (char) => (char === "\n" ? char : units(char)));
}

/**
 * The same as elements: each text that could be written from right to left is isolated from the JSON around it.
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

/** UTF-16, as JSON escapes it. @param {string} char */
const units = (char) =>
  Array.from({ length: char.length }, (_, at) => `\\u${hex(char.charCodeAt(at), 4)}`).join("");

/** @param {number} code @param {number} digits */
export const hex = (code, digits) => code.toString(16).padStart(digits, "0");
