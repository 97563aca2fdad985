/**
 * The words of docs/dashboards.md, as types.
 *
 * @typedef {"queued" | "running" | "completed" | "failed" | "interrupted"} Status
 * @typedef {"queued" | "assigned" | "completed" | "failed" | "timeout" | "cancelled"} State
 * @typedef {"queued" | "assigned" | "sent" | "acknowledged" | "started" | "finished"} Stage
 * @typedef {{code: string, message: string}} Reason
 * @typedef {{commandId: string, agentId: string, type: string, paramsSummary: string, priority: number,
 *   status: Status, state: State, attempt: number, reason: Reason, receipts: Partial<Record<Stage, number>>,
 *   cancelRequested?: number, exitCode?: number}} Command
 * @typedef {{commandId: string, agentId: string, type: string, status: Status, state: State, attempt: number,
 *   reason: Reason, exitCode?: number, data: unknown, outputBytes: number, outputDroppedBytes: number,
 *   finished: number}} Result
 * @typedef {{agentId: string, status: "online" | "busy" | "offline", state: "idle" | "working" | "busy" | "away",
 *   lastSeen: number, awaySince?: number, capacity: number, running: number, queued: number, types: string[],
 *   labels: Record<string, string>, version: string, epoch: number}} Agent
 * @typedef {{type: string, version: string, [field: string]: any}} Message
 */

export const VERSION = "1.0.0";

/** In the order in which a command passes them. */
export const STAGES = /** @type {const} */ (["queued", "assigned", "sent", "acknowledged", "started", "finished"]);

const ENDED = new Set(["completed", "failed", "interrupted"]);

/** @param {{status: Status}} command */
export const hasEnded = (command) => ENDED.has(command.status);

/** @param {string} type @param {Record<string, any>} fields */
export const message = (type, fields = {}) => JSON.stringify({ type, version: VERSION, ...fields });
