import { WINDOW_MS, series, summary } from "/js/activity.js";
import {
  MAX_COMMANDS,
  agentAbsence,
  agentsInOrder,
  countsEveryEnd,
  knownTypes,
  latestCommands,
  initialState,
  queuedCount,
  reduce,
  runningCount,
} from "/js/store.js";
import { localTime } from "/js/format.js";
import { same } from "./check.js";

const NOW = 1_761_000_000_000;

const STATUS = { assigned: "running", timeout: "failed", cancelled: "interrupted" };

function command(commandId, state, receipts = {}) {
  return {
    commandId,
    agentId: "a",
    type: "EXEC",
    priority: 50,
    status: STATUS[state] ?? state,
    state,
    attempt: 1,
    reason: { code: "", message: null },
    receipts: { queued: NOW, ...receipts },
  };
}

const agent = (agentId, status = "online", more = {}) => ({ agentId, status, lastSeen: NOW, types: ["EXEC"], ...more });

const status = (command, position) => ({ type: "command:status", commandId: command.commandId, command, position });

const connected = (more = {}) => ({
  type: "connected",
  userId: "alice",
  scopes: ["dashboard:read"],
  serverTime: NOW,
  resumed: false,
  position: "1-0",
  agents: [],
  commands: [],
  ...more,
});

const after = (...messages) => reduce(initialState(), messages, NOW);

export const tests = {
  "a snapshot fills what was empty"() {
    const known = after(
      connected({ agents: [agent("a")], commands: [command("2", "queued"), command("1", "completed")] }),
    );
    same(known.complete, true);
    same([...known.agents.keys()], ["a"]);
    same([...known.commands.keys()], ["1", "2"]);
    same([known.userId, known.scopes, known.position], ["alice", ["dashboard:read"], "1-0"]);
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
  "a terminal state never changes back"() {
    const known = after(status(command("1", "completed")), status(command("1", "assigned")));
    same(known.commands.get("1").state, "completed");
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
    const numbers = { running: 2, capacity: 4 };
    const known = after(connected({ agents: [agent("a", "online", numbers), agent("b", "offline", numbers)] }));
    same(runningCount(known), { running: 2, capacity: 4, unknown: 2 });
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
