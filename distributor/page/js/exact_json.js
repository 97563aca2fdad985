/**
 * Parses JSON without losing digits. JavaScript rounds integers above 53 bits and drops the sign of `-0`; numbers that
 * would not round-trip keep their source text, and `JSON.stringify` writes it unchanged.
 */

const json = /** @type {any} */ (JSON);

/**
 * Like `JSON.parse`, but numbers that would change become `JSON.rawJSON` values. Browsers older than 2025 round them.
 * @param {string} text
 * @returns {any}
 * @throws {SyntaxError} if the text is not JSON
 */
export function parseExactly(text) {
  if (!json.rawJSON) return JSON.parse(text);
  const keep = (/** @type {string} */ _, /** @type {any} */ value, /** @type {{source: string}} */ { source }) =>
    typeof value === "number" && JSON.stringify(value) !== source ? json.rawJSON(source) : value;
  return json.parse(text, keep);
}

/**
 * Parses a document from the bridge. Protocol fields become numbers; numbers in `params` and `data` keep their text.
 * @param {string} text
 * @returns {any}
 * @throws {SyntaxError} if the text is not JSON
 */
export function parseDocument(text) {
  return toNumbers(parseExactly(text), "");
}

const OPAQUE_FIELDS = new Set(["params", "data"]);

/** @param {any} value @param {string} name @returns {any} */
function toNumbers(value, name) {
  if (OPAQUE_FIELDS.has(name) || value === null || typeof value !== "object") return value;
  if (json.isRawJSON?.(value)) return Number(value.rawJSON);
  for (const key of Object.keys(value)) value[key] = toNumbers(value[key], Array.isArray(value) ? name : key);
  return value;
}

/** Whether the value is a JSON object: no list and no raw number. @param {any} value */
export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !json.isRawJSON?.(value);
}
