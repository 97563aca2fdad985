/**
 * What the page knows of the system, and how each message changes it. Pure: no socket, no document, no clock.
 * Output is not in here: it goes straight to the terminal (output_feed.js).
 *
 * @typedef {import("./protocol.js").Agent} Agent
 * @typedef {import("./protocol.js").Command} Command
 * @typedef {import("./protocol.js").Result} Result
 * @typedef {import("./protocol.js").Message} Message
 *
 * @typedef {object} Known
 * @property {Map<string, Agent>} agents
 * @property {Map<string, Command>} commands  the latest; bounded
 * @property {Map<string, Result>} results  the latest; bounded
 * @property {import("./activity.js").Activity} activity  what ended lately
 * @property {number} since  the earliest time of which some of the activity is known
 * @property {number} allSince  the time from which on every command that ended is counted; 0 for all of them
 * @property {import("./availability.js").Backends | null} backends  what the bridge says of its server and its Valkey
 * @property {string} position  where to resume
 * @property {number} ahead  ms by which the store's clock is ahead of ours
 * @property {string} userId
 * @property {string[]} scopes
 * @property {boolean} complete  whether a snapshot has arrived
 * @property {boolean} agentsCut  whether there may be more agents
 * @property {boolean} queuedCut  whether there may be more queued commands for agents that are not known
 * @property {number} changes  counts changes of commands; a list read at an earlier count may be outdated
 */

import { WINDOW_MS, withEnded } from "./activity.js";
import { backendsOf } from "./availability.js";
import { moment } from "./format.js";
import { hasEnded } from "./protocol.js";

export const MOST_COMMANDS = 1_000;
export const MOST_RESULTS = 50;
/** What a snapshot has at most: agents by number or by their size, and commands. */
const SNAPSHOT_AGENTS = 1_000;
/** The bridge stops before 384 KiB; what is left by then is less than one agent may take. */
const SNAPSHOT_CHARACTERS = 250_000;
const SNAPSHOT_COMMANDS = 50;

/** Whether a snapshot may have left some out. @param {Agent[] | undefined} agents */
export const areAgentsCut = (agents = []) =>
  agents.length >= SNAPSHOT_AGENTS || JSON.stringify(agents).length > SNAPSHOT_CHARACTERS;

/** Whether a snapshot may have left some out. @param {Command[] | undefined} commands */
export const areCommandsCut = (commands = []) => commands.length >= SNAPSHOT_COMMANDS;

/** @returns {Known} */
export function nothingKnown() {
  return {
    agents: new Map(),
    commands: new Map(),
    results: new Map(),
    activity: new Map(),
    since: 0,
    allSince: 0,
    backends: null,
    position: "",
    ahead: 0,
    userId: "",
    scopes: [],
    complete: false,
    agentsCut: false,
    queuedCut: false,
    changes: 0,
  };
}

/**
 * What is known after some messages. The value given stays as it was.
 * @param {Known} known
 * @param {Message[]} messages
 * @param {number} now  ms, by our clock
 * @returns {Known}
 */
export function reduce(known, messages, now) {
  const next = {
    ...known,
    agents: new Map(known.agents),
    commands: new Map(known.commands),
    results: new Map(known.results),
  };
  /** @type {Command[]} */
  const ended = [];
  for (const message of messages) {
    changes[message.type]?.(next, message, now, ended);
    // A resumed connection reports its final position before it has replayed what was missed.
    if (message.position && !message.resumed) next.position = message.position;
  }
  next.queuedCut ||= bound(next.commands, MOST_COMMANDS).some((command) => command.status === "queued");
  bound(next.results, MOST_RESULTS);
  next.activity = withEnded(next.activity, ended, now + next.ahead);
  return next;
}

/** @type {Record<string, (known: Known, message: Message, now: number, ended: Command[]) => void>} */
const changes = {
  connected(known, message, now, ended) {
    known.userId = message.userId;
    known.scopes = message.scopes;
    known.ahead = message.serverTime - now;
    snapshot(known, message, now, ended);
  },
  resync(known, message, now, ended) {
    snapshot(known, message, now, ended);
  },
  "bridge:status"(known, message) {
    known.backends = backendsOf(message);
  },
  "snapshot:rest"(known, message, _now, ended) {
    for (const agent of message.agents ?? [])
      if (!known.agents.has(agent.agentId)) known.agents.set(agent.agentId, agent);
    if (message.agents) known.agentsCut = false;
    // Changes received meanwhile are newer than what was read.
    for (const command of message.commands ?? [])
      if (!known.commands.has(command.commandId)) learn(known, command, ended);
    if (message.commands) known.queuedCut = message.moreQueued;
    for (const command of message.recent ?? []) {
      if (!known.commands.has(command.commandId)) learn(known, command, ended);
      known.since = Math.min(known.since, command.receipts.queued ?? known.since);
    }
  },
  pong(known, message, now) {
    known.ahead = message.serverTime - now;
  },
  "agent:status"(known, message) {
    known.agents.set(message.agentId, message.agent);
  },
  "agents:seen"(known, message) {
    for (const [agentId, lastSeen] of Object.entries(message.seen)) {
      const agent = known.agents.get(agentId);
      if (agent) known.agents.set(agentId, { ...agent, lastSeen });
    }
  },
  "command:status"(known, message, _now, ended) {
    learn(known, message.command, ended);
  },
  "command:result"(known, message) {
    known.results.set(message.commandId, message.result);
  },
};

/** @param {Known} known @param {Message} message @param {number} now @param {Command[]} ended */
function snapshot(known, message, now, ended) {
  if (message.agents) {
    known.complete = true;
    known.agentsCut = areAgentsCut(message.agents);
    known.agents = new Map(message.agents.map((/** @type {Agent} */ agent) => [agent.agentId, agent]));
  }
  if (message.commands) commandsAnew(known, message.commands, now + known.ahead, ended);
}

/**
 * Commands may have ended unseen, so the count restarts from the snapshot and what is read beside it.
 * @param {Known} known @param {Command[]} commands  the newest, newest first
 * @param {number} now  by the store's clock @param {Command[]} ended
 */
function commandsAnew(known, commands, now, ended) {
  known.queuedCut = areCommandsCut(commands);
  known.since = commands.at(-1)?.receipts.queued ?? 0;
  known.allSince = areCommandsCut(commands) ? now : 0;
  known.activity = new Map();
  // What is not among them may have changed or ended unseen.
  const inSnapshot = new Set(commands.map((command) => command.commandId));
  for (const [commandId, command] of known.commands) {
    if (!hasEnded(command) && !inSnapshot.has(commandId)) known.commands.delete(commandId);
  }
  ended.splice(0, ended.length, ...[...known.commands.values()].filter(hasEnded));
  for (const command of [...commands].reverse()) learn(known, command, ended);
  known.changes += 1;
}

/** Whether all that ended in the time of the tiles and charts is counted. @param {Known} known @param {number} now */
export const countsAll = (known, now) => known.complete && known.allSince <= now - WINDOW_MS;

/** @param {Known} known @param {Command} command @param {Command[]} ended  those that were not known to have ended */
function learn(known, command, ended) {
  const before = known.commands.get(command.commandId);
  // A terminal status never changes; a state that was read early may arrive late.
  if (before && hasEnded(before) && !hasEnded(command)) return;
  known.commands.set(command.commandId, command);
  known.changes += 1;
  if (hasEnded(command) && !(before && hasEnded(before))) ended.push(command);
}

/**
 * Forgets the oldest; returns what was forgotten.
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

/** Agents by id, those that are away last. @param {Known} known */
export function agentsInOrder(known) {
  const away = (/** @type {Agent} */ agent) => Number(agent.status === "offline");
  return [...known.agents.values()].sort(
    (one, other) => away(one) - away(other) || one.agentId.localeCompare(other.agentId),
  );
}

/**
 * How many commands are queued: agents count their own, and those for agents that are not known count one by one.
 * @param {Known} known
 * @returns {{count: number, atLeast: boolean}}
 */
export function queuedCount(known) {
  const own = [...known.agents.values()].reduce((sum, agent) => sum + agent.queued, 0);
  const others = [...known.commands.values()].filter(
    (command) => command.status === "queued" && !known.agents.has(command.agentId),
  );
  return { count: own + others.length, atLeast: known.agentsCut || known.queuedCut };
}

/**
 * How many commands connected agents run, and their capacity. Commands of agents that are away count apart: it is not
 * known whether they still run.
 * @param {Known} known
 */
export function runningCount(known) {
  const all = [...known.agents.values()];
  const sum = (/** @type {"running" | "capacity"} */ field, /** @type {boolean} */ away) =>
    all.reduce((total, agent) => total + ((agent.status === "offline") === away ? agent[field] : 0), 0);
  return { running: sum("running", false), capacity: sum("capacity", false), unknown: sum("running", true) };
}

/**
 * That an agent cannot take a command now, in words that go after its name; empty where it can, and where we do not
 * know.
 * @param {Known} known
 * @param {string} agentId
 * @param {number} now
 */
export function absenceOf(known, agentId, now) {
  const agent = known.agents.get(agentId);
  if (agent?.status === "offline" && agent.awaySince) return `not connected since ${moment(agent.awaySince, now)}`;
  if (agent) return agent.status === "offline" ? "not connected" : "";
  return known.complete && !known.agentsCut ? "not connected, never seen here" : "";
}

/** The types that agents have handlers for. @param {Known} known */
export function knownTypes(known) {
  return [...new Set([...known.agents.values()].flatMap((agent) => agent.types))].sort();
}
