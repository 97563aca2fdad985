/**
 * State and validation of the send form. No I/O.
 *
 * @typedef {object} Draft
 * @property {string} agentId
 * @property {string} commandType
 * @property {string} line  arguments of EXEC
 * @property {string} params  JSON: all params, or for EXEC those beside its arguments
 * @property {string} priority
 * @property {string} offline
 * @property {string} timeLimitSeconds
 * @property {string} idleLimitSeconds
 * @property {string} queueTtlSeconds
 * @property {string} slots  empty for 1
 * @property {string} maxRuns  empty for 1
 * @property {string} maxRunsByReason  such as `exit_nonzero=5 flaky=2`
 * @typedef {Record<string, string>} Problems  by field; `""` for problems of no single field
 *
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {{command: Command, params: Record<string, any> | null, timeLimitSeconds?: number,
 *   idleLimitSeconds?: number, queueTtlSeconds?: number, offline?: string, slots?: number, maxRuns?: number,
 *   maxRunsByReason?: Record<string, number>, retryOf?: string, secretParams?: string[], progress?: number,
 *   attempts?: import("./protocol.js").Attempt[], lateResult?: import("./protocol.js").Result}} Sent
 *   a command as read from `/api`; params are null while the server is unavailable
 */

import { splitArguments } from "./argv.js";
import { isObject, parseExactly } from "./exact_json.js";
import { visible, visibleJson } from "./foreign_text.js";
import { splitParams } from "./format.js";
import { randomId, refusalText } from "./requests.js";

/** @type {Draft} */
const DEFAULTS = {
  agentId: "",
  commandType: "EXEC",
  line: "",
  params: "",
  priority: "normal",
  offline: "queue",
  timeLimitSeconds: "",
  idleLimitSeconds: "",
  queueTtlSeconds: "",
  slots: "",
  maxRuns: "",
  maxRunsByReason: "",
};

const LIMITS = /** @type {const} */ (["timeLimitSeconds", "idleLimitSeconds", "queueTtlSeconds"]);

export class SendForm {
  /** @param {Partial<Draft>} initial */
  constructor(initial) {
    /** @type {Draft} */
    this.draft = { ...DEFAULTS, ...initial };
    // From a link or another command: escape invisible characters, which no agent or type contains.
    for (const name of /** @type {const} */ (["agentId", "commandType"])) this.draft[name] = visible(this.draft[name]);
    /** The draft as it was: fields that it had stay, even if emptied. */
    this.copied = { ...this.draft };
    /** @type {Problems} */
    this.problems = {};
    this.sending = false;
    this.keyed = { text: "", key: "" };
  }

  /**
   * The idempotency key of a request. A rejected request may have been queued, for example after a timeout, so an
   * unchanged request reuses its key.
   * @param {Record<string, any>} fields
   */
  idempotencyKey(fields) {
    const text = JSON.stringify(fields);
    if (text !== this.keyed.text) this.keyed = { text, key: randomId() };
    return this.keyed.key;
  }

  /** The fields of a `command:request`, or null if the form is invalid. */
  request() {
    const { agentId, commandType, priority, offline } = this.draft;
    this.problems = {};
    if (!agentId.trim()) this.problems.agentId = "required";
    if (!commandType.trim()) this.problems.commandType = "required";
    const params = this.params();
    const limits = { ...this.limits(), ...this.count("slots"), ...this.count("maxRuns"), ...this.maxRunsByReason() };
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

  /** The limits filled in; the server has defaults for the others. @returns {Record<string, number>} */
  limits() {
    const given = LIMITS.filter((name) => this.draft[name].trim());
    for (const name of given) {
      if (!(Number(this.draft[name]) > 0)) this.problems[name] = "must be a positive number of seconds, or empty";
    }
    return Object.fromEntries(given.map((name) => [name, Number(this.draft[name])]));
  }

  /** @param {"slots" | "maxRuns"} name @returns {Record<string, number>} */
  count(name) {
    const text = this.draft[name].trim();
    if (!text) return {};
    if (!/^[1-9]\d{0,3}$/.test(text)) this.problems[name] = "must be a whole number, at least 1, or empty";
    return { [name]: Number(text) };
  }

  /** @returns {{maxRunsByReason?: Record<string, number>}} */
  maxRunsByReason() {
    const pairs = this.draft.maxRunsByReason.split(/[\s,]+/).filter(Boolean);
    if (!pairs.length) return {};
    if (!pairs.every((pair) => /^[a-z][a-z0-9_]{0,63}=[1-9]\d{0,2}$/.test(pair)))
      this.problems.maxRunsByReason = "must be reasons and numbers, such as exit_nonzero=5";
    const runs = pairs.map((pair) => pair.split("=")).map(([code, number]) => [code, Number(number)]);
    return { maxRunsByReason: Object.fromEntries(runs) };
  }

  /** @returns {Record<string, any>} */
  params() {
    const more = this.moreParams();
    if (this.draft.commandType !== "EXEC") return more;
    const argv = this.argv();
    if (!argv.length && more.argv) return more;
    if (!argv.length && !this.problems.line) this.problems.line = "required";
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

  /** Shows why the bridge or the server rejected the request. @param {import("./protocol.js").Message} refusal */
  refused(refusal) {
    this.sending = false;
    const { agentId, commandType } = this.draft;
    this.problems =
      refusal.code === "UNAVAILABLE"
        ? { "": `${refusalText(agentId, refusal)}. Sending it again unchanged is safe: it is queued once.` }
        : { [fieldOf(refusal.field ?? "", commandType)]: refusal.message };
  }
}

/**
 * A draft copied from a sent command.
 * @param {Sent} sent
 * @returns {Partial<Draft>}
 * @throws {Error} if its params are unknown
 */
export function draftOf({ command, params, ...sent }) {
  const { timeLimitSeconds, idleLimitSeconds, queueTtlSeconds, offline, slots, maxRuns, maxRunsByReason } = sent;
  if (!params) throw new Error("the server is unavailable");
  if (sent.secretParams?.length) throw new Error("it has secret params, which are not shown; Retry keeps them");
  const { line, rest } = draftParams(command.type, params);
  return {
    agentId: command.agentId,
    commandType: command.type,
    line,
    params: Object.keys(rest).length ? visibleJson(rest) : "",
    priority: PRIORITY_NAMES.get(command.priority) ?? String(command.priority),
    ...(offline && { offline }),
    timeLimitSeconds: String(timeLimitSeconds ?? ""),
    idleLimitSeconds: String(idleLimitSeconds ?? ""),
    queueTtlSeconds: String(queueTtlSeconds ?? ""),
    slots: slots && slots !== 1 ? String(slots) : "",
    maxRuns: maxRuns && maxRuns !== 1 ? String(maxRuns) : "",
    maxRunsByReason: runsText(maxRunsByReason),
  };
}

/** Numbers of runs by reason, as the form takes them. @param {Record<string, number>} [runs] */
export const runsText = (runs = {}) =>
  Object.entries(runs)
    .map(([code, number]) => `${code}=${number}`)
    .join(" ");

/**
 * Keeps arguments in the JSON, as escapes, if a single-line input would drop or hide characters of them.
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
  if (["agentId", "commandType", "priority", "slots", "maxRuns", ...LIMITS].includes(field)) return field;
  if (field.startsWith("maxRunsByReason")) return "maxRunsByReason";
  if (field === "params" || field.startsWith("params."))
    return type === "EXEC" && field === "params.argv" ? "line" : "params";
  return "";
}
