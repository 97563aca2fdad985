/**
 * Deep links: the fragment of the address names the view, its subject and its filter.
 *
 *     #/                               overview
 *     #/agents                         agents
 *     #/commands?status=failed&agent=… commands, filtered
 *     #/commands/<id>                  one command
 *     #/audit?actor=…                  audit trail, filtered; for administrators
 *     #/send?agent=…&from=<id>         send form, optionally copied from a command
 *
 * @typedef {{view: string, id: string, query: Record<string, string>}} Route
 */

const VIEWS = new Set(["overview", "agents", "commands", "command", "send", "audit"]);

/** @param {string} hash @returns {Route} */
export function parseRoute(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [first = "", second = ""] = path.split("/").map(decoded);
  const query = Object.fromEntries(new URLSearchParams(search));
  const view = first === "" ? "overview" : first === "commands" && second ? "command" : first;
  return { view: VIEWS.has(view) ? view : "missing", id: second, query };
}

/**
 * The address of a view.
 * @param {string} path such as `commands/x`
 * @param {Record<string, string | undefined>} [query] empty values are omitted
 */
export function link(path, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
  const text = search.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** @param {string} commandId */
export const commandLink = (commandId) => link(`commands/${encodeURIComponent(wellFormed(commandId))}`);

/** The browser title. @param {Route} route */
export function titleOf(route) {
  const names = {
    overview: "Overview",
    agents: "Agents",
    commands: "Commands",
    command: "Command",
    send: "Send",
    audit: "Audit",
  };
  return `${names[/** @type {keyof typeof names} */ (route.view)] ?? "Not found"} · Command distributor`;
}

/** Replaces lone surrogates, which an address cannot contain. @param {string} text */
const wellFormed = (text) => new TextDecoder().decode(new TextEncoder().encode(text));

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
