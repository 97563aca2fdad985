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
  if (app.viewChanged) focusView(app);
  const dialog = /** @type {HTMLDialogElement | null} */ (document.getElementById("dialog"));
  if (dialog && !dialog.open) dialog.showModal();
});

/** Focuses the main control of a new view. @param {App} app */
function focusView(app) {
  const target = document.querySelector(app.focus || "[data-focus]") ?? document.getElementById("content");
  app.viewChanged = false;
  app.focus = "";
  /** @type {HTMLElement} */ (target).focus({ preventScroll: true });
}

startKeyboard(app);
app.start();
