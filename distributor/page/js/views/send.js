/** The send form. */

import { h } from "../dom.js";
import { foreign, visible } from "../foreign_text.js";
import { agentAbsence, knownTypes } from "../store.js";

/** @typedef {import("../app.js").App} App */
/** @typedef {import("../send_form.js").SendForm} SendForm */

const PRIORITIES = ["high", "normal", "low"];

/** @param {App} app */
export function sendView(app) {
  const form = /** @type {SendForm} */ (app.form);
  const { draft } = form;
  const isProgram = draft.commandType === "EXEC";
  const agents = [...app.known.agents.keys()];
  const types = app.known.agents.get(draft.agentId)?.types ?? knownTypes(app.known);
  return h(
    "div",
    { class: "view" },
    h("div", { class: "heading" }, h("h1", null, "Send a command")),
    !app.canSend() &&
      h("p", { class: "problem-box" }, "Your token does not have the role operator: you can view, but not send."),
    app.away().some(({ part }) => part === "server") &&
      h("p", { class: "problem-box" }, "The server is unavailable: commands cannot be sent now."),
    h(
      "form",
      { class: "form panel panel-body", novalidate: true, onsubmit: submit(app) },
      form.problems[""] && h("p", { class: "problem-box", role: "alert" }, foreign(form.problems[""])),
      h(
        "div",
        { class: "form-row" },
        text(app, "agentId", "Agent", {
          known: agents,
          placeholder: agents[0] ?? "agent123",
          hint: absenceHint(app),
          redraw: true,
        }),
        text(app, "commandType", "Type", { known: types, placeholder: "EXEC", redraw: true }),
      ),
      isProgram &&
        text(app, "line", "Command line", {
          hint: "Split like a shell, without expansion.",
          placeholder: "uname -a",
          mono: true,
        }),
      area(app, isProgram),
      h("div", { class: "form-row" }, priority(app), offline(app)),
      h(
        "div",
        { class: "form-row" },
        text(app, "timeLimitSeconds", "Time limit (seconds)", { placeholder: "300", inputmode: "decimal" }),
        text(app, "idleLimitSeconds", "Idle limit (seconds)", { placeholder: "none", inputmode: "decimal" }),
        text(app, "queueTtlSeconds", "Queue limit (seconds)", { placeholder: "86400", inputmode: "decimal" }),
        rare(app, "slots", "Slots", { inputmode: "numeric" }),
        rare(app, "maxRuns", "Runs, if failures are transient", { inputmode: "numeric" }),
        rare(app, "maxRunsByReason", "Runs by reason", { placeholder: "exit_nonzero=5", mono: true }),
      ),
      h(
        "div",
        { class: "heading" },
        h(
          "button",
          { type: "submit", class: "primary", disabled: form.sending || !app.canSend() },
          form.sending ? "Sending…" : "Send",
        ),
        form.sending && app.connection.state.phase !== "connected"
          ? h("span", { role: "status" }, "Sends when the bridge is back.")
          : h("span", { class: "quiet key-hint" }, h("kbd", null, "Ctrl"), " ", h("kbd", null, "Enter")),
      ),
    ),
  );
}

/**
 * A field shown only for a copy of a command that has it.
 * @param {App} app @param {"slots" | "maxRuns" | "maxRunsByReason"} name @param {string} label
 * @param {Parameters<typeof text>[3]} more
 */
function rare(app, name, label, more) {
  const form = /** @type {SendForm} */ (app.form);
  return Boolean(form.copied[name] || form.problems[name]) && text(app, name, label, more);
}

/** @param {App} app */
function absenceHint(app) {
  const { agentId, offline } = /** @type {SendForm} */ (app.form).draft;
  const absence = agentId.trim() && agentAbsence(app.known, agentId.trim(), app.now);
  if (!absence) return "";
  const effect = offline === "fail" ? "fails at once" : "waits in the queue";
  return `Agent ${agentId.trim()} is ${absence}: the command ${effect}.`;
}

/** @param {App} app */
const submit = (app) => (/** @type {Event} */ event) => {
  event.preventDefault();
  app.submit();
};

/**
 * @param {App} app
 * @param {keyof import("../send_form.js").Draft} name
 * @param {string} label
 * @param {{known?: string[], hint?: string, placeholder?: string, mono?: boolean, redraw?: boolean,
 *   inputmode?: string}} more
 */
function text(app, name, label, more) {
  const form = /** @type {SendForm} */ (app.form);
  const wrong = form.problems[name];
  return h(
    "div",
    { class: "field", key: name },
    h("label", { for: `send-${name}` }, label),
    h("input", {
      id: `send-${name}`,
      class: more.mono ? "mono" : null,
      value: form.draft[name],
      placeholder: more.placeholder && visible(more.placeholder),
      inputmode: more.inputmode,
      list: more.known ? `send-${name}-known` : null,
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      "aria-invalid": wrong ? "true" : null,
      "aria-describedby": wrong ? `send-${name}-problem` : null,
      "data-focus": name === firstEmpty(form),
      oninput: edit(app, name, more.redraw),
    }),
    more.known &&
      h(
        "datalist",
        { id: `send-${name}-known` },
        more.known.map((value) => h("option", { key: value, value: visible(value) })),
      ),
    wrong ? problemOf(name, wrong) : more.hint && h("span", { class: "hint" }, foreign(more.hint)),
  );
}

/** The first field to fill in. @param {SendForm} form */
const firstEmpty = ({ draft }) => (draft.agentId ? "line" : "agentId");

/** @param {App} app @param {boolean} isProgram */
function area(app, isProgram) {
  const form = /** @type {SendForm} */ (app.form);
  const wrong = form.problems.params;
  return h(
    "div",
    { class: "field", key: "params" },
    h("label", { for: "send-params" }, isProgram ? "More params (JSON, optional)" : "Params (JSON)"),
    h("textarea", {
      id: "send-params",
      rows: isProgram ? 2 : 6,
      value: form.draft.params,
      placeholder: isProgram ? '{"env": {"LANG": "C"}, "cwd": "/tmp"}' : '{"reason": "test"}',
      spellcheck: "false",
      "aria-invalid": wrong ? "true" : null,
      "aria-describedby": wrong ? "send-params-problem" : null,
      oninput: edit(app, "params"),
    }),
    wrong && problemOf("params", wrong),
  );
}

/** @param {string} name @param {string} text */
const problemOf = (name, text) => h("span", { class: "problem", id: `send-${name}-problem` }, foreign(text));

/** @param {App} app @param {keyof import("../send_form.js").Draft} name @param {boolean} [redraw] */
const edit = (app, name, redraw) => (/** @type {any} */ event) => {
  const form = /** @type {SendForm} */ (app.form);
  form.draft[name] = event.target.value;
  if (redraw) app.changed();
};

/** @param {App} app */
function priority(app) {
  const { draft, problems } = /** @type {SendForm} */ (app.form);
  const names = PRIORITIES.includes(draft.priority) ? PRIORITIES : [draft.priority, ...PRIORITIES];
  return h(
    "div",
    { class: "field" },
    h("label", { for: "send-priority" }, "Priority"),
    h(
      "select",
      { id: "send-priority", value: draft.priority, onchange: edit(app, "priority") },
      names.map((name) => h("option", { key: name, value: name }, name)),
    ),
    problems.priority && problemOf("priority", problems.priority),
  );
}

/** @param {App} app */
function offline(app) {
  const { draft } = /** @type {SendForm} */ (app.form);
  const one = (/** @type {string} */ value, /** @type {string} */ word) =>
    h(
      "label",
      null,
      h("input", {
        type: "radio",
        name: "offline",
        value,
        checked: draft.offline === value,
        onchange: edit(app, "offline", true),
      }),
      word,
    );
  return h(
    "fieldset",
    { class: "field" },
    h("legend", null, "If the agent is offline"),
    h("div", { class: "choices" }, one("queue", "queue it"), one("fail", "fail at once")),
  );
}
