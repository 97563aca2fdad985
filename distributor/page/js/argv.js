/** Splits a command line into arguments. */

/**
 * Splits like a POSIX shell, honouring quotes and backslashes, without expansion.
 * @param {string} line
 * @returns {string[]}
 * @throws {Error} if a quote is not closed
 */
export function splitArguments(line) {
  /** @type {string[]} */
  const argv = [];
  let word = "";
  let inWord = false;
  for (let at = 0; at < line.length; at += 1) {
    const char = line[at];
    if (char === "'" || char === '"') {
      const end = closing(line, at);
      word += char === "'" ? line.slice(at + 1, end) : line.slice(at + 1, end).replace(/\\(["\\$`])/g, "$1");
      inWord = true;
      at = end;
    } else if (" \t\n".includes(char)) {
      if (inWord) argv.push(word);
      word = "";
      inWord = false;
    } else {
      if (char === "\\" && at + 1 < line.length) at += 1;
      word += line[at];
      inWord = true;
    }
  }
  if (inWord) argv.push(word);
  return argv;
}

/** @param {string} line @param {number} start */
function closing(line, start) {
  for (let at = start + 1; at < line.length; at += 1) {
    if (line[at] === line[start]) return at;
    if (line[at] === "\\" && line[start] === '"') at += 1;
  }
  throw new Error(`the quote ${line[start]} at column ${start + 1} is not closed`);
}
