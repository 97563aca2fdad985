/** Light or dark theme: the system's, unless the user chose one. Set before the first paint. */

const KEY = "distributor-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {"light" | "dark"} */
export function theme() {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "light" || chosen === "dark") return chosen;
  return dark.matches ? "dark" : "light";
}

/** Applies the theme and follows changes of the system's. */
export function startTheme() {
  apply();
  dark.addEventListener("change", apply);
}

/** Switches the theme; forgets the choice if it equals the system's. */
export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  if ((next === "dark") === dark.matches) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  apply();
}

function apply() {
  document.documentElement.dataset.theme = theme();
  dispatchEvent(new Event("themechange"));
}
