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

/**
 * A document of the bridge. Its own numbers are numbers; those of others, in `params` and `data`, stay as spelt.
 * @param {string} text
 * @returns {any}
 * @throws {SyntaxError} where it is not JSON
 */
export function parseDocument(text) {
  return numbered(parseExactly(text), "");
}

const OF_OTHERS = new Set(["params", "data"]);

/** @param {any} value @param {string} name @returns {any} */
function numbered(value, name) {
  if (OF_OTHERS.has(name) || value === null || typeof value !== "object") return value;
  if (json.isRawJSON?.(value)) return Number(value.rawJSON);
  for (const key of Object.keys(value)) value[key] = numbered(value[key], Array.isArray(value) ? name : key);
  return value;
}

/** Whether this is an object with fields, and neither a list nor a number that is kept as text. @param {any} value */
export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && !json.isRawJSON?.(value);
}
