// What the module tests use to compare.

/** Fails unless both have the same content. Maps and byte arrays compare as lists. */
export function same(actual, expected) {
  const [one, other] = [actual, expected].map((value) => JSON.stringify(value, plain, 1));
  if (one !== other) throw new Error(`expected ${other}\nbut got ${one}`);
}

/** Fails unless the action throws an error whose message has `words` in it. */
export function throws(action, words) {
  try {
    action();
  } catch (error) {
    if (error.message.includes(words)) return;
    throw error;
  }
  throw new Error(`nothing was thrown; expected ${words}`);
}

function plain(_name, value) {
  if (value instanceof Map) return [...value];
  if (value instanceof Uint8Array) return [...value];
  return value === undefined ? "(undefined)" : value;
}
