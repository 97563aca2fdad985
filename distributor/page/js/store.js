/**
 * State of the system as known to the page, and a reducer over messages. Pure: no socket, no document, no clock.
 * Output is not part of it: it goes straight to the terminal (output_feed.js).
 *
 * @typedef {import("./protocol.js").Agent} Agent
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Result} Result
 * @typedef {import("./protocol.js").Message} Message
 *
 * @typedef {object} Known
 * @property {Map<string, Agent>} agents
 * @property {Map<string, Command>} commands  commands to list and count; bounded
 * @property {Map<string, Command>} newest  newest state of each command received, kept over a resync; bounded
 * @property {Map<string, Result>} results  latest results; bounded
 * @property {import("./activity.js").Activity} activity  recently ended commands
 * @property {number} since  earliest time with any known activity, in ms
 * @property {number} allSince  time since which every ended command is counted, in ms; 0 if all are
 * @property {import("./availability.js").Backends | null} backends  status of the bridge's server and Valkey
 * @property {string[]} insecure  what is insecure, by the names of `bridge:status`
 * @property {import("./protocol.js").Stop[]} stops  emergency stops in force, oldest first
 * @property {string} position  resume position
 * @property {number} clockOffset  ms by which the store's clock is ahead of the browser's
 * @property {string} userId
 * @property {string[]} roles
 * @property {number} expires  when the session ends, in ms by the store's clock; 0 if not known
 * @property {boolean} complete  whether a snapshot has arrived
 * @property {boolean} agentsTruncated  whether there may be more agents
 * @property {boolean} queuedTruncated  whether there may be more queued commands for unknown agents
 * @property {number} changes  counts command changes; a list read at a lower count may be outdated
 */

import { WINDOW_MS, addEnded } from "./activity.js";
import { backendsOf } from "./availability.js";
import { localTime } from "./format.js";
import { keepNewest, newerAgent, newerCommand } from "./newest.js";
import { hasEnded } from "./protocol.js";

export const MAX_COMMANDS = 1_000;
export const MAX_RESULTS = 50;
/** Snapshot limits of the bridge: agents by count or size, and commands. */
const SNAPSHOT_AGENTS = 1_000;
/** The bridge stops before 384 KiB; the difference exceeds the largest single agent. */
const SNAPSHOT_CHARACTERS = 250_000;
const SNAPSHOT_COMMANDS = 50;

/** Whether a snapshot may be truncated. @param {Agent[] | undefined} agents */
export const isAgentListTruncated = (agents = []) =>
  agents.length >= SNAPSHOT_AGENTS || JSON.stringify(agents).length > SNAPSHOT_CHARACTERS;

/** Whether a snapshot may be truncated. @param {Command[] | undefined} commands */
export const isCommandListTruncated = (commands = []) => commands.length >= SNAPSHOT_COMMANDS;

/** @returns {Known} */
export function initialState() {
  return {
    agents: new Map(),
    commands: new Map(),
    newest: new Map(),
    results: new Map(),
    activity: new Map(),
    since: 0,
    allSince: 0,
    backends: null,
    insecure: [],
    stops: [],
    position: "",
    clockOffset: 0,
    userId: "",
    roles: [],
    expires: 0,
    complete: false,
    agentsTruncated: false,
    queuedTruncated: false,
    changes: 0,
  };
}

/**
 * Applies messages and returns the new state; the given state is unchanged.
 * @param {Known} known
 * @param {Message[]} messages
 * @param {number} now  ms, by the browser's clock
 * @returns {Known}
 */
export function reduce(known, messages, now) {
  const next = {
    ...known,
    agents: new Map(known.agents),
    commands: new Map(known.commands),
    newest: new Map(known.newest),
    results: new Map(known.results),
  };
  /** @type {Command[]} */
  const ended = [];
  for (const message of messages) {
    changes[message.type]?.(next, message, now, ended);
    // A resumed connection reports its final position before it replays missed messages.
    if (message.position && !message.resumed) next.position = message.position;
  }
  next.queuedTruncated ||= bound(next.commands, MAX_COMMANDS).some((command) => command.status === "queued");
  bound(next.results, MAX_RESULTS);
  next.activity = addEnded(next.activity, ended, now + next.clockOffset);
  return next;
}

/** @type {Record<string, (known: Known, message: Message, now: number, ended: Command[]) => void>} */
const changes = {
  connected(known, message, now, ended) {
    known.userId = message.userId;
    known.roles = message.roles;
    // A bridge says nothing if there is none.
    known.stops = [];
    known.expires = message.expireTime ?? 0;
    known.clockOffset = message.serverTime - now;
    snapshot(known, message, now, ended);
  },
  resync(known, message, now, ended) {
    snapshot(known, message, now, ended);
  },
  "bridge:status"(known, message) {
    known.backends = backendsOf(message);
    known.insecure = message.insecure ?? [];
  },
  "emergency:stops"(known, message) {
    known.stops = message.stops;
  },
  "snapshot:rest"(known, message, _now, ended) {
    for (const agent of message.agents ?? []) {
      const before = known.agents.get(agent.agentId);
      known.agents.set(agent.agentId, before ? newerAgent(agent, before) : agent);
    }
    if (message.agents) known.agentsTruncated = false;
    for (const command of message.commands ?? []) applyCommand(known, newestOf(known, command), ended);
    if (message.commands) known.queuedTruncated = message.moreQueued;
    for (const command of message.recent ?? []) {
      applyCommand(known, newestOf(known, command), ended);
      known.since = Math.min(known.since, command.receipts.queued ?? known.since);
    }
  },
  pong(known, message, now) {
    known.clockOffset = message.serverTime - now;
  },
  "agent:status"(known, message) {
    known.agents.set(message.agentId, newerAgent(known.agents.get(message.agentId), message.agent));
  },
  "agents:seen"(known, message) {
    for (const [agentId, lastSeen] of Object.entries(message.seen)) {
      const agent = known.agents.get(agentId);
      if (agent) known.agents.set(agentId, { ...agent, lastSeen: Math.max(agent.lastSeen, lastSeen) });
    }
  },
  "commands:read"(known, message, _now, ended) {
    for (const command of message.commands) {
      // A page that shows nothing new must not count as a change, which would have it read again.
      if ((known.newest.get(command.commandId)?.revision ?? 0) >= command.revision) continue;
      if (known.commands.has(command.commandId)) applyCommand(known, command, ended);
      else keepNewest(known.newest, command);
    }
  },
  "command:status"(known, message, _now, ended) {
    applyCommand(known, message.command, ended);
  },
  "command:result"(known, message) {
    known.results.set(message.commandId, message.result);
  },
};

/** @param {Known} known @param {Message} message @param {number} now @param {Command[]} ended */
function snapshot(known, message, now, ended) {
  if (message.agents) {
    known.complete = true;
    known.agentsTruncated = isAgentListTruncated(message.agents);
    const before = known.agents;
    known.agents = new Map();
    for (const agent of message.agents) known.agents.set(agent.agentId, newerAgent(before.get(agent.agentId), agent));
  }
  if (message.commands) resetCommands(known, message.commands, now + known.clockOffset, ended);
}

/**
 * Restarts from a snapshot: commands may have ended unseen, so earlier counts are void.
 * @param {Known} known @param {Command[]} commands  the newest, newest first
 * @param {number} now  by the store's clock @param {Command[]} ended
 */
function resetCommands(known, commands, now, ended) {
  known.queuedTruncated = isCommandListTruncated(commands);
  known.since = commands.at(-1)?.receipts.queued ?? 0;
  known.allSince = isCommandListTruncated(commands) ? now : 0;
  known.activity = new Map();
  // Commands outside the snapshot may have changed or ended unseen.
  const inSnapshot = new Set(commands.map((command) => command.commandId));
  for (const [commandId, command] of known.commands) {
    if (!hasEnded(command) && !inSnapshot.has(commandId)) known.commands.delete(commandId);
  }
  ended.splice(0, ended.length, ...[...known.commands.values()].filter(hasEnded));
  for (const command of [...commands].reverse()) applyCommand(known, command, ended);
  known.changes += 1;
}

/** Whether tiles and charts count every command that ended in their window. @param {Known} known @param {number} now */
export const countsEveryEnd = (known, now) => known.complete && known.allSince <= now - WINDOW_MS;

/** @param {Known} known @param {Command} command @param {Command[]} ended  collects newly ended commands */
function applyCommand(known, command, ended) {
  const before = known.commands.get(command.commandId);
  const newest = keepNewest(known.newest, command);
  if (newest === before) return;
  known.commands.set(command.commandId, newest);
  known.changes += 1;
  if (hasEnded(newest) && !(before && hasEnded(before))) ended.push(newest);
}

/**
 * The newest state of a command that was read from the API; of equal ones that received, which may tell of its agent.
 * @param {Known} known @param {Command} read
 */
export const newestOf = (known, read) => {
  const received = known.newest.get(read.commandId);
  return received ? newerCommand(read, received) : read;
};

/**
 * Removes and returns the oldest entries beyond a limit.
 * @template T
 * @param {Map<string, T>} map
 * @param {number} most
 */
export function bound(map, most) {
  const forgotten = map.size > most ? [...map].slice(0, map.size - most) : [];
  for (const [key] of forgotten) map.delete(key);
  return forgotten.map(([, value]) => value);
}

/**
 * The latest commands, newest first.
 * @param {Known} known
 * @param {number} count
 */
export function latestCommands(known, count) {
  const time = (/** @type {Command} */ command) => command.receipts.queued ?? 0;
  return [...known.commands.values()]
    .sort((one, other) => time(other) - time(one) || (one.commandId < other.commandId ? 1 : -1))
    .slice(0, count);
}

/** Agents by id, offline agents last. @param {Known} known */
export function agentsInOrder(known) {
  const away = (/** @type {Agent} */ agent) => Number(agent.status === "offline");
  return [...known.agents.values()].sort(
    (one, other) => away(one) - away(other) || one.agentId.localeCompare(other.agentId),
  );
}

/**
 * Number of queued commands: the counts of known agents plus single commands for unknown agents.
 * @param {Known} known
 * @returns {{count: number, atLeast: boolean}}
 */
export function queuedCount(known) {
  const own = [...known.agents.values()].reduce((sum, agent) => sum + agent.queued, 0);
  const others = [...known.commands.values()].filter(
    (command) => command.status === "queued" && !known.agents.has(command.agentId),
  );
  return { count: own + others.length, atLeast: known.agentsTruncated || known.queuedTruncated };
}

/**
 * Commands running on connected agents, the slots that they use, and the agents' capacity. Commands of offline agents
 * are counted apart because they may no longer be running.
 * @param {Known} known
 */
export function runningCount(known) {
  const all = [...known.agents.values()];
  const sum = (/** @type {"running" | "slotsUsed" | "capacity"} */ field, /** @type {boolean} */ away) =>
    all.reduce((total, agent) => total + ((agent.status === "offline") === away ? agent[field] : 0), 0);
  return {
    running: sum("running", false),
    slotsUsed: sum("slotsUsed", false),
    capacity: sum("capacity", false),
    unknown: sum("running", true),
  };
}

/**
 * Why an agent cannot take a command now, as a phrase to follow its name; empty if it can, or if unknown.
 * @param {Known} known
 * @param {string} agentId
 * @param {number} now
 */
export function agentAbsence(known, agentId, now) {
  const agent = known.agents.get(agentId);
  if (agent?.status === "offline" && agent.awaySince) return `not connected since ${localTime(agent.awaySince, now)}`;
  if (agent) return agent.status === "offline" ? "not connected" : "";
  return known.complete && !known.agentsTruncated ? "not connected, never seen" : "";
}

/** Command types that known agents support. @param {Known} known */
export function knownTypes(known) {
  return [...new Set([...known.agents.values()].flatMap((agent) => agent.types))].sort();
}
