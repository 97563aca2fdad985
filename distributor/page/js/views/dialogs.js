/** The dialogs: keyboard help and signing in. */

import { h } from "../dom.js";
import { foreign } from "../foreign_text.js";
import { SHORTCUTS } from "../keyboard.js";
import { stopForm } from "./emergency.js";

/** @typedef {import("../app.js").App} App */

/** @param {App} app */
export function dialogs(app) {
  if (app.dialog === "help") return dialog(app, "help", help(app));
  if (app.dialog === "sign in") return dialog(app, "sign in", signInForm(app));
  if (app.dialog === "emergency") return dialog(app, "emergency", stopForm(app));
  return null;
}

/** @param {App} app @param {string} name @param {import("../dom.js").Child} body */
function dialog(app, name, body) {
  return h(
    "dialog",
    { key: `dialog ${name}`, id: "dialog", "aria-labelledby": "dialog-title", onclose: () => app.closeDialog() },
    body,
  );
}

/** @param {App} app */
function help(app) {
  return h(
    "div",
    { class: "dialog-body" },
    h("h2", { id: "dialog-title" }, "Keyboard shortcuts"),
    h(
      "dl",
      { class: "shortcuts" },
      SHORTCUTS.map(({ keys, what }) => [
        h(
          "dt",
          { key: `${keys} keys` },
          keys.map((key, at) => [at > 0 && " ", h("kbd", null, key)]),
        ),
        h("dd", { key: `${keys} what` }, what),
      ]),
      h("dt", null, h("kbd", null, "Ctrl"), " ", h("kbd", null, "Enter")),
      h("dd", null, "Send the form"),
    ),
    h("div", { class: "dialog-actions" }, h("button", { type: "button", onclick: () => app.closeDialog() }, "Close")),
  );
}

/** @param {App} app */
function signInForm(app) {
  const problem = app.signInProblem || app.connection.state.problem;
  return h(
    "form",
    {
      class: "dialog-body",
      onsubmit: (/** @type {any} */ event) => {
        event.preventDefault();
        const token = event.target.elements.token.value.trim();
        if (token) app.signIn(token);
      },
    },
    h("h2", { id: "dialog-title" }, "Sign in"),
    problem && h("p", { class: "problem-box", role: "alert" }, "Not signed in: ", foreign(problem), "."),
    h(
      "div",
      { class: "field" },
      h("label", { for: "token" }, "Token"),
      h("input", { id: "token", name: "token", type: "password", autocomplete: "off", spellcheck: "false" }),
    ),
    h(
      "p",
      { class: "quiet" },
      "Ask an administrator for one, or create it with ",
      h("code", null, "distributor token"),
      ". All tabs of this browser are signed in, until the token expires or you sign out.",
    ),
    h(
      "div",
      { class: "dialog-actions" },
      h("button", { type: "button", onclick: () => app.closeDialog() }, "Not now"),
      h("button", { type: "submit", class: "primary", disabled: app.signingIn }, "Sign in"),
    ),
  );
}
