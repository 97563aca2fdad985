/** Light or dark: as the system says, until the user says otherwise. Set before anything is painted. */

const KEY = "distributor-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {"light" | "dark"} */
export function theme() {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "light" || chosen === "dark") return chosen;
  return dark.matches ? "dark" : "light";
}

/** Follows the system from now on. */
export function startTheme() {
  apply();
  dark.addEventListener("change", apply);
}

/** The other one; back to the system's choice where that is the same. */
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
