import { splitArguments } from "/js/argv.js";
import { SendForm, draftOf } from "/js/send_form.js";
import { same, throws } from "./check.js";

const request = (draft) => new SendForm({ agentId: "a", ...draft }).request();

function problems(draft) {
  const form = new SendForm(draft);
  same(form.request(), null);
  return Object.keys(form.problems).sort();
}

export const tests = {
  "arguments are split as a shell splits them"() {
    same(splitArguments("uname -a"), ["uname", "-a"]);
    same(splitArguments(`  a  'b c' "d \\" e" f\\ g '' h"i"j `), ["a", "b c", 'd " e', "f g", "", "hij"]);
    same(splitArguments("a\u00a0b"), ["a\u00a0b"]);
    same(splitArguments("echo $HOME *"), ["echo", "$HOME", "*"]);
    throws(() => splitArguments("echo 'open"), "the quote ' at column 6 is not closed");
  },
  "a program is sent with its arguments and what is beside them"() {
    same(request({ line: "sh -c 'exit 3'", params: '{"cwd": "/tmp"}', timeLimitSeconds: "2.5" }), {
      agentId: "a",
      commandType: "EXEC",
      params: { cwd: "/tmp", argv: ["sh", "-c", "exit 3"] },
      priority: "normal",
      offline: "queue",
      timeLimitSeconds: 2.5,
    });
  },
  "another type is sent with its params, and a priority may be a number"() {
    same(request({ commandType: "STOP", params: '{"reason": "test"}', priority: "7", offline: "fail" }), {
      agentId: "a",
      commandType: "STOP",
      params: { reason: "test" },
      priority: 7,
      offline: "fail",
    });
  },
  "what is missing or wrong is named by its field"() {
    same(problems({}), ["agentId", "line"]);
    same(problems({ agentId: "a", line: "echo 'x" }), ["line"]);
    same(problems({ agentId: "a", commandType: "X", params: "[1]", timeLimitSeconds: "-1" }), [
      "params",
      "timeLimitSeconds",
    ]);
    same(problems({ agentId: "a", commandType: " ", params: "{" }), ["commandType", "params"]);
  },
  "a refusal is shown at its field"() {
    const form = new SendForm({ agentId: "a", line: "x" });
    form.refused({ field: "params.argv", message: "no such program" });
    same(form.problems, { line: "no such program" });
    form.refused({ field: "", message: "the server is away" });
    same([form.problems, form.sending], [{ "": "the server is away" }, false]);
  },
  "what is sent again unchanged has the same idempotency key"() {
    const form = new SendForm({ agentId: "a", line: "x" });
    const key = form.idempotencyKey(form.request());
    form.refused({ code: "UNAVAILABLE", message: "no answer" });
    same(form.problems[""].startsWith("Unknown whether the command for a was sent: no answer. "), true);
    same(form.idempotencyKey(form.request()), key);
    form.draft.line = "y";
    same(form.idempotencyKey(form.request()) === key, false);
  },
  "a copy of a command sends the same again"() {
    const command = { agentId: "a", type: "EXEC", priority: 75 };
    const params = { argv: ["sh", "-c", "echo 'it is'; exit 1", ""], env: { A: "b" } };
    const again = request(draftOf({ command, params }));
    same([again.params.argv, again.params.env, again.priority], [params.argv, params.env, "high"]);
    same(request(draftOf({ command: { agentId: "a", type: "PING", priority: 51 }, params: {} })).priority, 51);
  },
  "a copy keeps what a line of input would drop or hide"() {
    const command = { agentId: "a", type: "EXEC", priority: 50 };
    for (const word of ["two\nlines", "user\u202etxt", "no\u00a0break", "\u200b"]) {
      const params = { argv: ["sh", "-c", word], cwd: "/tmp" };
      const draft = draftOf({ command, params });
      same([draft.line, request(draft).params], ["", params]);
      same(/[^\n\x20-\x7e]/.test(draft.params), false);
    }
  },
  "arguments that are no texts are copied as they are"() {
    const command = { agentId: "a", type: "EXEC", priority: 50 };
    same(request(draftOf({ command, params: { argv: ["a", 2] } })).params, { argv: ["a", 2] });
  },
  "numbers are sent as they were typed"() {
    const params = '{"a":9007199254740993,"b":1e400,"c":-0,"d":[0.10000000000000000555]}';
    same(JSON.stringify(request({ commandType: "X", params }).params) === params, true);
    same(problems({ agentId: "a", commandType: "X", params: "9007199254740993" }), ["params"]);
  },
  "one slot is the default, and needs no mention"() {
    const sent = { command: { agentId: "a", type: "PING", priority: 50 }, params: {}, slots: 1 };
    same([draftOf(sent).slots, "slots" in request(draftOf(sent))], ["", false]);
    same(problems({ agentId: "a", commandType: "X", slots: "0" }), ["slots"]);
  },
  "a command without its params cannot be copied"() {
    throws(() => draftOf({ command: { agentId: "a", type: "PING" }, params: null }), "the server is unavailable");
    const secret = { command: { agentId: "a", type: "PING" }, params: { p: "***" }, secretParams: ["/p"] };
    throws(() => draftOf(secret), "secret params, which are not shown");
  },
  "numbers of runs are numbers"() {
    const runs = { agentId: "a", commandType: "X", maxRuns: "3", maxRunsByReason: " exit_nonzero=5,flaky=2 " };
    const { maxRuns, maxRunsByReason } = request(runs);
    same([maxRuns, maxRunsByReason], [3, { exit_nonzero: 5, flaky: 2 }]);
    same(problems({ ...runs, maxRuns: "0", maxRunsByReason: "exit_nonzero" }), ["maxRuns", "maxRunsByReason"]);
    for (const wrong of ["Flaky=2", "flaky=0", "flaky=1000", "=1"])
      same(problems({ ...runs, maxRunsByReason: wrong }), ["maxRunsByReason"]);
    const form = new SendForm(runs);
    const error = { code: "INVALID_ARGUMENT", message: "no" };
    const refused = (field) => form.refused({ ...error, field }) ?? Object.keys(form.problems);
    same(["maxRuns", "maxRunsByReason.flaky", "slots"].map(refused), [["maxRuns"], ["maxRunsByReason"], ["slots"]]);
  },
  "a command that is copied keeps its limits"() {
    const sent = {
      command: { commandId: "1", agentId: "a", type: "PING", priority: 75, state: "timeout" },
      params: { x: 1 },
      timeLimitSeconds: 7200,
      idleLimitSeconds: 30,
      queueTtlSeconds: 60,
      offline: "fail",
      slots: 4,
      maxRuns: 2,
      maxRunsByReason: { exit_nonzero: 5 },
    };
    const limits = { timeLimitSeconds: 7200, idleLimitSeconds: 30, queueTtlSeconds: 60, slots: 4, maxRuns: 2 };
    same(request(draftOf(sent)), {
      ...{ agentId: "a", commandType: "PING", params: { x: 1 }, priority: "high" },
      offline: "fail",
      ...limits,
      maxRunsByReason: { exit_nonzero: 5 },
    });
  },
};
