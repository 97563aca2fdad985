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
  const dialog = /** @type {HTMLDialogElement | null} */ (document.getElementById("dialog"));
  if (dialog && !dialog.open) dialog.showModal();
});
startKeyboard(app);
app.start();
