/**
 * What the user is about to send. Pure but for what it holds.
 *
 * @typedef {object} Draft
 * @property {string} agentId
 * @property {string} commandType
 * @property {string} line  arguments of EXEC
 * @property {string} params  JSON, for all other types and for what EXEC has beside its arguments
 * @property {string} priority
 * @property {string} offline
 * @property {string} timeLimitSeconds
 * @property {string} queueTtlSeconds
 * @typedef {Record<string, string>} Problems  by field; `""` for those of no field
 *
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {{command: Command, params: Record<string, any> | null, timeLimitSeconds?: number,
 *   queueTtlSeconds?: number, offline?: string}} Sent
 *   what `/api` says of a command; no params while it cannot know them
 */

import { splitArguments } from "./argv.js";
import { isObject, parseExactly } from "./exact_json.js";
import { visible, visibleJson } from "./foreign_text.js";
import { splitParams } from "./format.js";
import { randomId, refusalText } from "./requests.js";

/** @type {Draft} */
const FRESH = {
  agentId: "",
  commandType: "EXEC",
  line: "",
  params: "",
  priority: "normal",
  offline: "queue",
  timeLimitSeconds: "",
  queueTtlSeconds: "",
};

const LIMITS = /** @type {const} */ (["timeLimitSeconds", "queueTtlSeconds"]);

export class SendForm {
  /** @param {Partial<Draft>} beginning */
  constructor(beginning) {
    /** @type {Draft} */
    this.draft = { ...FRESH, ...beginning };
    // From a link or another command: no agent or type has what cannot be seen.
    for (const name of /** @type {const} */ (["agentId", "commandType"])) this.draft[name] = visible(this.draft[name]);
    /** @type {Problems} */
    this.problems = {};
    this.sending = false;
    this.keyed = { text: "", key: "" };
  }

  /**
   * The idempotency key of a request. What was refused may have been queued all the same, as where no answer came in
   * time: sent again unchanged, it has the same key.
   * @param {Record<string, any>} fields
   */
  keyOf(fields) {
    const text = JSON.stringify(fields);
    if (text !== this.keyed.text) this.keyed = { text, key: randomId() };
    return this.keyed.key;
  }

  /** The fields of a `command:request`, or null where there are problems. */
  request() {
    const { agentId, commandType, priority, offline } = this.draft;
    this.problems = {};
    if (!agentId.trim()) this.problems.agentId = "which agent?";
    if (!commandType.trim()) this.problems.commandType = "which type?";
    const params = this.params();
    const limits = this.limits();
    if (Object.keys(this.problems).length) return null;
    return {
      agentId: agentId.trim(),
      commandType: commandType.trim(),
      params,
      priority: /^\d+$/.test(priority) ? Number(priority) : priority,
      offline,
      ...limits,
    };
  }

  /** Those that are filled in; what is left out is up to the server. @returns {Record<string, number>} */
  limits() {
    const given = LIMITS.filter((name) => this.draft[name].trim());
    for (const name of given) {
      if (!(Number(this.draft[name]) > 0)) this.problems[name] = "a number of seconds above 0, or nothing";
    }
    return Object.fromEntries(given.map((name) => [name, Number(this.draft[name])]));
  }

  /** @returns {Record<string, any>} */
  params() {
    const more = this.moreParams();
    if (this.draft.commandType !== "EXEC") return more;
    const argv = this.argv();
    if (!argv.length && more.argv) return more;
    if (!argv.length && !this.problems.line) this.problems.line = "which program?";
    return { ...more, argv };
  }

  argv() {
    try {
      return splitArguments(this.draft.line);
    } catch (error) {
      this.problems.line = /** @type {Error} */ (error).message;
      return [];
    }
  }

  moreParams() {
    if (!this.draft.params.trim()) return {};
    try {
      const params = parseExactly(this.draft.params);
      if (isObject(params)) return params;
      this.problems.params = 'must be a JSON object, such as {"reason": "test"}';
    } catch (error) {
      this.problems.params = `not JSON: ${/** @type {Error} */ (error).message}`;
    }
    return {};
  }

  /** The bridge or the server refused it. @param {import("./protocol.js").Message} refusal */
  refused(refusal) {
    this.sending = false;
    const { agentId, commandType } = this.draft;
    this.problems =
      refusal.code === "UNAVAILABLE"
        ? { "": `${refusalText(agentId, refusal)}. If you send it again unchanged, it is queued once.` }
        : { [fieldOf(refusal.field ?? "", commandType)]: refusal.message };
  }
}

/** The fields of a `command:request` that sends the same again. @param {Sent} sent  with its params */
export function requestAgain({ command, params, timeLimitSeconds, queueTtlSeconds, offline }) {
  const { agentId, type, priority } = command;
  return {
    agentId,
    commandType: type,
    params: params ?? {},
    priority,
    ...(offline && { offline }),
    ...(timeLimitSeconds && { timeLimitSeconds }),
    ...(queueTtlSeconds && { queueTtlSeconds }),
  };
}

/**
 * A draft that would send the same again.
 * @param {Sent} sent
 * @returns {Partial<Draft>}
 * @throws {Error} where its params are not known
 */
export function draftOf({ command, params, timeLimitSeconds, queueTtlSeconds, offline }) {
  if (!params) throw new Error("the bridge cannot reach the server now");
  const { line, rest } = draftParams(command.type, params);
  return {
    agentId: command.agentId,
    commandType: command.type,
    line,
    params: Object.keys(rest).length ? visibleJson(rest) : "",
    priority: PRIORITY_NAMES.get(command.priority) ?? String(command.priority),
    ...(offline && { offline }),
    timeLimitSeconds: String(timeLimitSeconds ?? ""),
    queueTtlSeconds: String(queueTtlSeconds ?? ""),
  };
}

/**
 * Arguments with characters that a line of input drops or hides stay in the JSON, where they are escapes.
 * @param {string} type @param {Record<string, any>} params
 */
function draftParams(type, params) {
  const { words, rest } = splitParams(params);
  const line = words?.join(" ");
  if (type !== "EXEC" || line === undefined || visible(line) !== line) return { line: "", rest: params };
  return { line, rest };
}

const PRIORITY_NAMES = new Map([
  [75, "high"],
  [50, "normal"],
  [25, "low"],
]);

/** @param {string} field @param {string} type */
function fieldOf(field, type) {
  if (["agentId", "commandType", "priority", ...LIMITS].includes(field)) return field;
  if (field === "params" || field.startsWith("params."))
    return type === "EXEC" && field === "params.argv" ? "line" : "params";
  return "";
}
