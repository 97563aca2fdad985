/**
 * Keyboard shortcuts: single keys, inactive while the user types; the help dialog shows this very table.
 *
 * @typedef {{keys: string[], what: string, act: (app: import("./app.js").App) => void}} Shortcut
 */

import { link } from "./router.js";

/** How long the second key of a pair may take. */
const PAIR_MS = 1_500;

/** @type {Shortcut[]} */
export const SHORTCUTS = [
  { keys: ["g", "o"], what: "Go to the overview", act: (app) => app.go(link("")) },
  { keys: ["g", "a"], what: "Go to the agents", act: (app) => app.go(link("agents")) },
  { keys: ["g", "c"], what: "Go to the commands", act: (app) => app.go(link("commands")) },
  { keys: ["n"], what: "Send a new command", act: (app) => app.go(link("send")) },
  { keys: ["f"], what: "Failed commands only", act: (app) => app.go(link("commands", { status: "failed" })) },
  { keys: ["/"], what: "Filter the commands by agent", act: goToFilter },
  { keys: ["j"], what: "Next row", act: () => moveRow(1) },
  { keys: ["k"], what: "Row before", act: () => moveRow(-1) },
  { keys: ["Enter"], what: "Open the row", act: () => {} },
  { keys: ["x"], what: "Cancel the command shown", act: (app) => app.detail && app.cancel(app.detail.commandId) },
  { keys: ["t"], what: "Light or dark", act: (app) => app.toggleTheme() },
  { keys: ["?"], what: "This help", act: (app) => app.showDialog("help") },
];

/** @param {import("./app.js").App} app */
export function startKeyboard(app) {
  let pressed = "";
  let pressedAt = 0;
  addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) target.closest("form")?.requestSubmit();
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(target) || app.dialog) return;
    const keys = pressed && event.timeStamp - pressedAt < PAIR_MS ? [pressed, event.key] : [event.key];
    const shortcut = SHORTCUTS.find((it) => it.keys.join() === keys.join());
    pressed = SHORTCUTS.some((it) => it.keys.length > keys.length && it.keys[0] === event.key) ? event.key : "";
    pressedAt = event.timeStamp;
    if (!shortcut || event.key === "Enter") return;
    event.preventDefault();
    shortcut.act(app);
  });
}

/** @param {import("./app.js").App} app */
function goToFilter(app) {
  const filter = "#filter-agent";
  if (app.route.view === "commands") /** @type {HTMLElement} */ (document.querySelector(filter)).focus();
  else app.go(link("commands"), filter);
}

/** @param {HTMLElement} target */
function isTyping(target) {
  // The terminal has a text area to receive keys, but nothing is typed there.
  return target.matches("input, select, textarea") && !target.matches(".xterm-helper-textarea");
}

/** @param {number} by */
function moveRow(by) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("a.row-link")]);
  const now = rows.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  rows[now < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, now + by))]?.focus();
}
