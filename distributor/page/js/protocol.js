/**
 * Message types of docs/dashboards.md and their conversion to page values. Values have times in ms since the epoch and
 * omit unset fields. Documents are converted only here.
 *
 * @typedef {"queued" | "running" | "completed" | "failed" | "interrupted"} Status
 * @typedef {"queued" | "assigned" | "completed" | "failed" | "timeout" | "cancelled"} State
 * @typedef {"queued" | "assigned" | "sent" | "acknowledged" | "started" | "finished"} Stage
 * @typedef {{code: string, message: string}} Reason
 * @typedef {{commandId: string, agentId: string, type: string, paramsSummary: string, priority: number,
 *   status: Status, state: State, revision: number, attempt: number, reason: Reason,
 *   receipts: Partial<Record<Stage, number>>,
 *   cancelRequested?: number, cancelStage?: string, agentAwaySince?: number, exitCode?: number,
 *   requestedBy?: Requester}} Command
 * @typedef {{name: string, through: string, address: string}} Requester  who asked, and through which service
 * @typedef {{number: number, agentId: string, receipts: Partial<Record<Stage, number>>, reason: Reason,
 *   started: boolean}} Attempt  an ended attempt; `finished` is its end
 * @typedef {{commandId: string, agentId: string, type: string, status: Status, state: State, attempt: number,
 *   reason: Reason, exitCode?: number, data: unknown, outputBytes: number, outputDroppedBytes: number,
 *   finished: number}} Result
 * @typedef {{agentId: string, status: "online" | "busy" | "degraded" | "draining" | "offline",
 *   state: "idle" | "working" | "busy" | "away",
 *   lastSeen: number, awaySince?: number, capacity: number, running: number, slotsUsed: number, queued: number,
 *   types: string[],
 *   labels: Record<string, string>, version: string, epoch: number, revision: number,
 *   handlerLag: number, problems: Reason[]}} Agent
 * @typedef {{stopId: string, all: boolean, selectors: string[], reason: string, stoppedBy: string,
 *   stopped: number}} Stop  an emergency stop in force
 * @typedef {{type: string, version: string, [field: string]: any}} Message
 */

export const VERSION = "1.0.0";

/** In lifecycle order. */
export const STAGES = /** @type {const} */ (["queued", "assigned", "sent", "acknowledged", "started", "finished"]);

/** Short status by exact status. @type {Record<State, Status>} */
const SHORT_STATUS = {
  queued: "queued",
  assigned: "running",
  completed: "completed",
  failed: "failed",
  timeout: "failed",
  cancelled: "interrupted",
};

const RECEIPTS = /** @type {const} */ ([
  ["queueTime", "queued"],
  ["assignTime", "assigned"],
  ["sendTime", "sent"],
  ["acknowledgeTime", "acknowledged"],
  ["startTime", "started"],
  ["finishTime", "finished"],
]);

const ENDED = new Set(["completed", "failed", "interrupted"]);

/** @param {{status: Status}} command */
export const hasEnded = (command) => ENDED.has(command.status);

/** @param {string} type @param {Record<string, any>} fields */
export const message = (type, fields = {}) => JSON.stringify({ type, version: VERSION, ...fields });

/** The exact statuses of a short status. @param {string} word @returns {string[]} */
export const statusesOf = (word) =>
  Object.entries(SHORT_STATUS).flatMap(([status, short]) => (short === word ? [status] : []));

/** @param {Record<string, any>} document @returns {Command} */
export function commandOf(document) {
  /** @type {State} */
  const state = document.status;
  return {
    commandId: document.commandId,
    agentId: document.agentId,
    type: document.type,
    paramsSummary: document.paramsSummary,
    priority: document.priority,
    status: SHORT_STATUS[state],
    state,
    revision: document.revision,
    attempt: document.attempt,
    reason: reasonOf(document),
    receipts: receiptsOf(document),
    ...(document.agentAwaySince && { agentAwaySince: ms(document.agentAwaySince) }),
    ...(document.cancelTime && { cancelRequested: ms(document.cancelTime), cancelStage: document.cancelStage }),
    ...(document.exitCode !== null && { exitCode: document.exitCode }),
    ...(document.requestedBy && { requestedBy: requesterOf(document.requestedBy) }),
  };
}

/** Who asked, the user rather than the bridge between. @param {Record<string, any>} document @returns {Requester} */
const requesterOf = ({ kind, subject, onBehalfOf, address }) => ({
  name: onBehalfOf ?? subject,
  through: onBehalfOf ? subject : kind === "user" ? "" : kind,
  address: address ?? "",
});

/** @param {Record<string, any>} document @returns {Attempt} */
export const attemptOf = (document) => ({
  number: document.number,
  agentId: document.agentId,
  receipts: receiptsOf(document),
  reason: reasonOf(document),
  started: document.started,
});

/** @param {Record<string, any>} document @returns {Result} */
export function resultOf(document) {
  /** @type {State} */
  const state = document.status;
  return {
    commandId: document.commandId,
    agentId: document.agentId,
    type: document.type,
    status: SHORT_STATUS[state],
    state,
    attempt: document.attempt,
    reason: reasonOf(document),
    ...(document.exitCode !== null && { exitCode: document.exitCode }),
    data: document.data,
    outputBytes: document.outputBytes,
    outputDroppedBytes: document.outputDroppedBytes,
    finished: ms(document.finishTime),
  };
}

/** @param {Record<string, any>} document @returns {Agent} */
export function agentOf(document) {
  const { status, running } = document;
  const connected = status === "busy" ? "busy" : running ? "working" : "idle";
  return {
    agentId: document.agentId,
    status,
    state: status === "offline" ? "away" : connected,
    lastSeen: ms(document.lastSeenTime),
    ...(document.awaySince && { awaySince: ms(document.awaySince) }),
    capacity: document.capacity,
    running,
    slotsUsed: document.slotsUsed,
    queued: document.queued,
    types: document.types,
    labels: document.labels,
    version: document.agentVersion,
    epoch: document.epoch,
    revision: document.revision,
    handlerLag: document.handlerLagSeconds * 1000,
    problems: document.problems,
  };
}

/** @param {Record<string, any>} document @returns {Stop} */
const stopOf = ({ stopTime, ...stop }) => ({ .../** @type {any} */ (stop), stopped: ms(stopTime) });

/** Converts the documents in a message to values. @param {Message} message @returns {Message} */
export function received(message) {
  const { agents, commands, agent, command, result, seen, stops, serverTime, expireTime } = message;
  return {
    ...message,
    ...(agents && { agents: agents.map(agentOf) }),
    ...(commands && { commands: commands.map(commandOf) }),
    ...(agent && { agent: agentOf(agent) }),
    ...(command && { command: commandOf(command) }),
    ...(result && { result: resultOf(result) }),
    ...(seen && { seen: Object.fromEntries(Object.entries(seen).map(([agentId, time]) => [agentId, ms(time)])) }),
    ...(stops && { stops: stops.map(stopOf) }),
    ...(serverTime && { serverTime: ms(serverTime) }),
    ...(expireTime && { expireTime: ms(expireTime) }),
  };
}

/** @param {Record<string, any>} document */
function receiptsOf(document) {
  /** @type {Partial<Record<Stage, number>>} */
  const receipts = {};
  for (const [name, stage] of RECEIPTS) if (document.receipts[name]) receipts[stage] = ms(document.receipts[name]);
  return receipts;
}

/** @param {Record<string, any>} document @returns {Reason} */
const reasonOf = ({ reason }) => reason ?? { code: "", message: "" };

/** @param {string | null} time  RFC 3339; null becomes 0 */
export const ms = (time) => (time ? Date.parse(time) : 0);
