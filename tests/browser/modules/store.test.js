import { WINDOW_MS, series, summary } from "/js/activity.js";
import {
  MAX_COMMANDS,
  agentAbsence,
  agentsInOrder,
  countsEveryEnd,
  knownTypes,
  latestCommands,
  initialState,
  newestOf,
  queuedCount,
  reduce,
  runningCount,
} from "/js/store.js";
import { localTime } from "/js/format.js";
import { MAX_NEWEST, keepNewest } from "/js/newest.js";
import { same } from "./check.js";

const NOW = 1_761_000_000_000;

const STATUS = { assigned: "running", timeout: "failed", cancelled: "interrupted" };
const REVISION = { queued: 1, assigned: 2 };

function command(commandId, state, receipts = {}) {
  return {
    commandId,
    agentId: "a",
    type: "EXEC",
    priority: 50,
    status: STATUS[state] ?? state,
    state,
    revision: REVISION[state] ?? 3,
    attempt: 1,
    reason: { code: "", message: null },
    receipts: { queued: NOW, ...receipts },
  };
}

const agent = (agentId, status = "online", more = {}) => ({
  agentId,
  status,
  lastSeen: NOW,
  types: ["EXEC"],
  epoch: 1,
  revision: 1,
  ...more,
});

const status = (command, position) => ({ type: "command:status", commandId: command.commandId, command, position });

const connected = (more = {}) => ({
  type: "connected",
  userId: "alice",
  roles: ["viewer"],
  serverTime: NOW,
  resumed: false,
  position: "1-0",
  agents: [],
  commands: [],
  ...more,
});

/** All orders of these items. */
const orders = (items) =>
  items.length < 2
    ? [items]
    : items.flatMap((item) => orders(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));

const after = (...messages) => reduce(initialState(), messages, NOW);

export const tests = {
  "a snapshot fills what was empty"() {
    const known = after(
      connected({ agents: [agent("a")], commands: [command("2", "queued"), command("1", "completed")] }),
    );
    same(known.complete, true);
    same([...known.agents.keys()], ["a"]);
    same([...known.commands.keys()], ["1", "2"]);
    same([known.userId, known.roles, known.position], ["alice", ["viewer"], "1-0"]);
  },
  "what was known before stays as it was"() {
    const before = after(connected({ agents: [agent("a")] }));
    reduce(before, [{ type: "agent:status", agentId: "b", agent: agent("b") }, status(command("1", "queued"))], NOW);
    same([before.agents.size, before.commands.size], [1, 0]);
  },
  "our clock is corrected by the server's"() {
    same(after(connected({ serverTime: NOW + 5_000 })).clockOffset, 5_000);
    same(after({ type: "pong", serverTime: NOW - 7 }).clockOffset, -7);
  },
  "the position is the last one told, but not the one a resumed connection names"() {
    const known = after(connected(), status(command("1", "queued"), "2-0"), status(command("1", "assigned")));
    same(known.position, "2-0");
    same(reduce(known, [connected({ resumed: true, position: "9-0" })], NOW).position, "2-0");
  },
  "a resumed connection brings agents, and commands stay known"() {
    const before = after(connected({ commands: [command("1", "assigned")] }));
    const known = reduce(before, [{ ...connected({ resumed: true, agents: [agent("b")] }), commands: undefined }], NOW);
    same([[...known.agents.keys()], [...known.commands.keys()]], [["b"], ["1"]]);
  },
  "a state with a lower revision is dropped, whatever brings it"() {
    const before = after(status(command("1", "completed")));
    const older = command("1", "assigned");
    const messages = [
      status(older),
      connected({ commands: [older] }),
      { type: "resync", agents: [], commands: [older], position: "3-0" },
      { type: "snapshot:rest", commands: [older], recent: [older], moreQueued: false },
      { type: "commands:read", commands: [older] },
    ];
    for (const message of messages) {
      const known = reduce(before, [message], NOW);
      same([known.commands.get("1").state, newestOf(known, older).state], ["completed", "completed"]);
    }
  },
  "a command that a resync forgot does not go back either"() {
    const before = after(status({ ...command("1", "assigned"), revision: 5 }));
    const forgotten = reduce(before, [{ type: "resync", agents: [], commands: [], position: "3-0" }], NOW);
    same(forgotten.commands.has("1"), false);
    const known = reduce(forgotten, [status({ ...command("1", "queued"), revision: 4 })], NOW);
    same([known.commands.get("1").revision, known.commands.get("1").state], [5, "assigned"]);
  },
  "snapshots and events of one command in every order never show a state that goes back"() {
    const states = ["queued", "assigned", "queued", "assigned", "completed"].map((state, at) => ({
      ...command("1", state, { finished: NOW }),
      revision: at + 1,
    }));
    const brings = [
      (it) => status(it),
      (it) => ({ type: "resync", agents: [], commands: [it], position: "3-0" }),
      (it) => ({ type: "resync", agents: [], commands: [], position: "3-0" }),
      (it) => ({ type: "snapshot:rest", commands: [it], recent: [it], moreQueued: false }),
      (it) => ({ type: "commands:read", commands: [it] }),
    ];
    for (const order of orders([0, 1, 2, 3, 4])) {
      let known = initialState();
      let shown = 0;
      order.forEach((place, at) => {
        const bring = brings[(order[(at + 1) % 5] + at) % brings.length];
        known = reduce(known, [bring(states[place]), bring(states[place])], NOW);
        const newest = known.newest.get("1")?.revision ?? 0;
        const listed = known.commands.get("1")?.revision ?? newest;
        same([newest >= shown, listed], [true, newest]);
        shown = newest;
      });
      known = reduce(known, [status(states[4]), status(states[0])], NOW);
      same([known.commands.get("1").revision, summary(known.activity, NOW + 20).completed], [5, 1]);
    }
  },
  "what was read does not undo that an agent has gone"() {
    const read = command("1", "assigned");
    const known = after(status({ ...read, agentAwaySince: NOW }));
    const rest = { type: "snapshot:rest", commands: [read], recent: [read], moreQueued: false };
    for (const it of [known, reduce(known, [rest, { type: "commands:read", commands: [read] }], NOW)])
      same([newestOf(it, read).agentAwaySince, it.commands.get("1").agentAwaySince], [NOW, NOW]);
    same("agentAwaySince" in after(status({ ...read, agentAwaySince: NOW }), status(read)).commands.get("1"), false);
  },
  "a page that was read counts as a change only if it is newer"() {
    const before = after(status(command("1", "assigned")));
    const read = (state) => reduce(before, [{ type: "commands:read", commands: [command("1", state)] }], NOW);
    same([read("assigned").changes - before.changes, read("completed").changes - before.changes], [0, 1]);
    same(read("completed").commands.get("1").state, "completed");
  },
  "what was read is not listed with the commands, but known"() {
    const known = after({ type: "commands:read", commands: [command("1", "completed")] });
    same([known.commands.size, newestOf(known, command("1", "assigned")).state], [0, "completed"]);
  },
  "only the newest states of so many commands are kept"() {
    const newest = new Map();
    for (let at = 0; at < MAX_NEWEST + 2; at += 1) keepNewest(newest, command(`c${at % (MAX_NEWEST + 1)}`, "queued"));
    same([newest.size, newest.has("c0"), newest.has("c1"), newest.has("c2")], [MAX_NEWEST, true, false, true]);
  },
  "an agent does not go back: its epoch counts before its revision"() {
    const at = (epoch, revision, running) => agent("a", "online", { epoch, revision, running });
    const told = (it) => ({ type: "agent:status", agentId: "a", agent: it });
    const before = after(told(at(2, 5, 1)));
    const running = (...messages) => reduce(before, messages, NOW).agents.get("a").running;
    same([running(told(at(2, 4, 9))), running(told(at(1, 9, 9))), running(told(at(3, 1, 2)))], [1, 1, 2]);
    same(running(connected({ agents: [at(2, 4, 9)] })), 1);
    same(running({ type: "snapshot:rest", agents: [at(2, 5, 9)] }), 1);
    same(running({ type: "snapshot:rest", agents: [at(2, 6, 9)] }), 9);
    same(running(told(at(2, 5, 9))), 9);
  },
  "proof of life changes nothing else"() {
    const known = after(connected({ agents: [agent("a", "busy")] }), {
      type: "agents:seen",
      seen: { a: NOW + 1, stranger: 1 },
    });
    same([known.agents.get("a").lastSeen, known.agents.get("a").status, known.agents.size], [NOW + 1, "busy", 1]);
  },
  "a resync forgets what may have ended unseen and keeps what had ended"() {
    const before = after(status(command("open", "assigned")), status(command("ended", "failed")));
    const known = reduce(
      before,
      [{ type: "resync", agents: [], commands: [command("new", "queued")], position: "3-0" }],
      NOW,
    );
    same([...known.commands.keys()].sort(), ["ended", "new"]);
  },
  "a command that ended counts once, however often it is told"() {
    const ended = command("1", "completed", { started: NOW + 4, finished: NOW + 10 });
    const known = after(connected({ commands: [ended] }), status(ended), status(ended));
    same(summary(known.activity, NOW + 20), { completed: 1, other: 0, wait: 4, total: 10, totalHigh: 10 });
  },
  "nothing is claimed of the time before the oldest command we know"() {
    const known = after(
      connected({ commands: [command("1", "completed", { queued: NOW - 60_000, finished: NOW - 59_000 })] }),
    );
    const { times, completed } = series(known.activity, NOW, known.since);
    const value = (msAgo) => completed[times.indexOf((NOW - msAgo) / 1000)];
    same([value(200_000), value(60_000), value(30_000), value(0)], [null, 0.2, 0, 0]);
  },
  "what did not complete counts apart"() {
    const known = after(
      ...["failed", "timeout", "cancelled"].map((state) => status(command(state, state, { finished: NOW }))),
    );
    same(summary(known.activity, NOW + 20).other, 3);
  },
  "what the 50 newest do not show is said, until it was all seen or read"() {
    const ended = (at) => command(`c${at}`, "completed", { finished: NOW - 1 });
    const few = after(connected({ commands: [ended(1)] }));
    same([countsEveryEnd(few, NOW), countsEveryEnd(initialState(), NOW)], [true, false]);
    const cut = after(connected({ commands: Array.from({ length: 50 }, (_, at) => ended(at)) }));
    same([summary(cut.activity, NOW).completed, countsEveryEnd(cut, NOW)], [50, false]);
    const recent = Array.from({ length: 80 }, (_, at) => ended(at));
    const known = reduce(cut, [{ type: "snapshot:rest", commands: [], moreQueued: false, recent }], NOW);
    same([summary(known.activity, NOW).completed, countsEveryEnd(known, NOW)], [80, false]);
    same([countsEveryEnd(known, NOW + WINDOW_MS - 1), countsEveryEnd(known, NOW + WINDOW_MS)], [false, true]);
  },
  "a resync counts nothing twice"() {
    const ended = command("1", "completed", { finished: NOW });
    const known = after(connected({ commands: [] }), status(ended));
    const again = reduce(known, [{ type: "resync", agents: [], commands: [ended] }], NOW);
    same(summary(again.activity, NOW + 20).completed, 1);
  },
  "what agents run that are away is not known to run"() {
    const numbers = { running: 2, slotsUsed: 3, capacity: 4 };
    const known = after(connected({ agents: [agent("a", "online", numbers), agent("b", "offline", numbers)] }));
    same(runningCount(known), { running: 2, slotsUsed: 3, capacity: 4, unknown: 2 });
  },
  "what the bridge says of its parts is kept"() {
    const server = { available: false, since: "2026-11-30T01:19:58.000Z", message: "no answer" };
    const valkey = { available: true, since: "2026-11-30T00:00:00.000Z", message: null };
    const since = [Date.UTC(2026, 10, 30, 1, 19, 58), Date.UTC(2026, 10, 30)];
    same(after({ type: "bridge:status", server, valkey }).backends, {
      server: { ...server, since: since[0] },
      valkey: { ...valkey, since: since[1] },
    });
  },
  "results are kept by command"() {
    same(after({ type: "command:result", commandId: "1", result: { data: 3 } }).results.get("1"), { data: 3 });
  },
  "the oldest commands are forgotten"() {
    const many = Array.from({ length: MAX_COMMANDS + 5 }, (_, at) => status(command(`c${at}`, "queued")));
    const known = after(...many);
    same([known.commands.size, known.commands.has("c4"), known.commands.has("c5")], [MAX_COMMANDS, false, true]);
  },
  "unknown messages are ignored"() {
    same(after({ type: "weather:forecast", position: "4-0" }).position, "4-0");
  },
  "the latest commands come newest first"() {
    const known = after(
      status(command("old", "queued", { queued: 1 })),
      status(command("new", "queued", { queued: 3 })),
      status(command("middle", "queued", { queued: 2 })),
    );
    same(
      latestCommands(known, 2).map((it) => it.commandId),
      ["new", "middle"],
    );
  },
  "queued commands count for agents that are known and for those that are not"() {
    const known = after(
      connected({ agents: [agent("a", "online", { queued: 3 }), agent("b", "offline", { queued: 2 })] }),
      status(command("1", "queued")),
      status({ ...command("2", "queued"), agentId: "never seen" }),
      status({ ...command("3", "completed"), agentId: "never seen" }),
    );
    same(queuedCount(known), { count: 6, atLeast: false });
  },
  "what a snapshot leaves out is said, until it was read"() {
    const commands = Array.from({ length: 50 }, (_, at) => command(`c${at}`, "completed"));
    const agents = Array.from({ length: 1000 }, (_, at) => agent(`a${at}`, "online", { queued: 0 }));
    const cut = after(connected({ agents, commands }));
    same([cut.agentsTruncated, queuedCount(cut), agentAbsence(cut, "z", NOW)], [true, { count: 0, atLeast: true }, ""]);
    const rest = {
      type: "snapshot:rest",
      agents: [agent("a0", "offline", { queued: 9 }), agent("z", "online", { queued: 1 })],
      commands: [{ ...command("old", "queued"), agentId: "never seen" }, command("c0", "queued")],
      moreQueued: false,
    };
    const known = reduce(cut, [rest], NOW);
    same([known.agents.size, known.agents.get("a0").status, known.agentsTruncated], [1001, "online", false]);
    same(known.commands.get("c0").state, "completed");
    same(queuedCount(known), { count: 2, atLeast: false });
  },
  "an agent that cannot take a command is named"() {
    const known = after(connected({ agents: [agent("a"), agent("b", "offline")] }));
    same(
      ["a", "b", "c"].map((agentId) => agentAbsence(known, agentId, NOW)),
      ["", "not connected", "not connected, never seen"],
    );
    same(agentAbsence(initialState(), "a", NOW), "");
    const since = after(connected({ agents: [agent("a", "offline", { awaySince: NOW })] }));
    same(agentAbsence(since, "a", NOW), `not connected since ${localTime(NOW, NOW)}`);
  },
  "agents come by id, those that are away last"() {
    const known = after(
      connected({ agents: [agent("c"), agent("a", "offline"), agent("b", "busy", { types: ["PING", "EXEC"] })] }),
    );
    same(
      agentsInOrder(known).map((it) => it.agentId),
      ["b", "c", "a"],
    );
    same(knownTypes(known), ["EXEC", "PING"]);
  },
};
