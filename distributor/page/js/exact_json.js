/**
 * JSON without loss. JavaScript's numbers round what needs more than 53 bits and know no sign of 0 in text; a number
 * that it would not spell as it was spelt is kept as its text, and `JSON.stringify` writes it as it was.
 */

const json = /** @type {any} */ (JSON);

/**
 * As `JSON.parse`; numbers that would change are what `JSON.rawJSON` makes. Browsers of before 2025 round them.
 * @param {string} text
 * @returns {any}
 * @throws {SyntaxError} where it is not JSON
 */
export function parseExactly(text) {
  if (!json.rawJSON) return JSON.parse(text);
  const keep = (/** @type {string} */ _, /** @type {any} */ value, /** @type {{source: string}} */ { source }) =>
    typeof value === "number" && JSON.stringify(value) !== source ? json.rawJSON(source) : value;
  return json.parse(text, keep);
}

/** Whether this is an object with fields, and neither a list nor a number that is kept as text. @param {any} value */
export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !json.isRawJSON?.(value);
}
