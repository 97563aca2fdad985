/** Starts the page. */

import { App } from "./app.js";
import { render } from "./dom.js";
import { startKeyboard } from "./keyboard.js";
import { startTheme } from "./theme.js";
import { loadVendored } from "./vendored.js";
import { shell } from "./views/shell.js";

startTheme();
const root = /** @type {HTMLElement} */ (document.getElementById("app"));
const app = new App(await loadVendored(), (app) => {
  render(root, shell(app));
  if (app.arrived) enterView(app);
  const dialog = /** @type {HTMLDialogElement | null} */ (document.getElementById("dialog"));
  if (dialog && !dialog.open) dialog.showModal();
});

/** Where the keyboard goes on in a new view: to what it is there for. @param {App} app */
function enterView(app) {
  const target = document.querySelector(app.focus || "[data-focus]") ?? document.getElementById("content");
  app.arrived = false;
  app.focus = "";
  /** @type {HTMLElement} */ (target).focus({ preventScroll: true });
}

startKeyboard(app);
app.start();
