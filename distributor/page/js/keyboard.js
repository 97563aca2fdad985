/**
 * Keyboard shortcuts, inactive while the user types. The help dialog lists them from the same table.
 *
 * @typedef {{keys: string[], what: string, act: (app: import("./app.js").App) => void}} Shortcut
 */

import { link } from "./router.js";

/** Maximum time between the two keys of a pair. */
const PAIR_MS = 1_500;

/** @type {Shortcut[]} */
export const SHORTCUTS = [
  { keys: ["g", "o"], what: "Overview", act: (app) => app.navigate(link("")) },
  { keys: ["g", "a"], what: "Agents", act: (app) => app.navigate(link("agents")) },
  { keys: ["g", "c"], what: "Commands", act: (app) => app.navigate(link("commands")) },
  { keys: ["n"], what: "Send a command", act: (app) => app.navigate(link("send")) },
  { keys: ["f"], what: "Failed commands only", act: (app) => app.navigate(link("commands", { status: "failed" })) },
  { keys: ["/"], what: "Filter commands by agent", act: goToFilter },
  { keys: ["j"], what: "Next row", act: () => moveRow(1) },
  { keys: ["k"], what: "Previous row", act: () => moveRow(-1) },
  { keys: ["Enter"], what: "Open row", act: () => {} },
  { keys: ["x"], what: "Cancel the open command", act: (app) => app.detail && app.cancel(app.detail.commandId) },
  { keys: ["t"], what: "Toggle dark mode", act: (app) => app.toggleTheme() },
  { keys: ["?"], what: "Help", act: (app) => app.showDialog("help") },
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
  else app.navigate(link("commands"), filter);
}

/** @param {HTMLElement} target */
function isTyping(target) {
  // xterm.js has a text area for input, which is disabled here.
  return target.matches("input, select, textarea") && !target.matches(".xterm-helper-textarea");
}

/** @param {number} by */
function moveRow(by) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("a.row-link")]);
  const now = rows.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  rows[now < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, now + by))]?.focus();
}
