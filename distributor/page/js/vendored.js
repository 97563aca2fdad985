/**
 * Loads the npm packages xterm.js and uPlot. `scripts/vendor_page.sh` copies them into vendor/; without them the page
 * falls back to plain text and shows no charts.
 *
 * @typedef {{Terminal: any, FitAddon: any} | null} TerminalModules
 * @typedef {{terminal: TerminalModules, uPlot: any | null}} Vendored
 */

const FOLDER = new URL("../vendor/", import.meta.url);

/** @returns {Promise<Vendored>} */
export async function loadVendored() {
  const [xterm, fit, uPlot] = await Promise.all([load("xterm.mjs"), load("addon-fit.mjs"), load("uPlot.esm.js")]);
  if (xterm) addStyles("xterm.css");
  if (uPlot) addStyles("uPlot.min.css");
  return {
    terminal: xterm && fit ? { Terminal: xterm.Terminal, FitAddon: fit.FitAddon } : null,
    uPlot: uPlot?.default ?? null,
  };
}

/** @param {string} file */
async function load(file) {
  try {
    return await import(new URL(file, FOLDER).href);
  } catch {
    return null;
  }
}

/** @param {string} file */
function addStyles(file) {
  const styles = document.createElement("link");
  styles.rel = "stylesheet";
  styles.href = new URL(file, FOLDER).href;
  // First, so that the page's own styles take precedence.
  document.head.prepend(styles);
}
