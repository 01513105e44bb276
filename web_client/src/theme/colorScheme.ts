/**
 * Light, dark or "as the system": remembered in this browser.
 *
 * Mantine's inline ColorSchemeScript would need a hole in the CSP. Entries call
 * `applyColorScheme` before the first render instead, so nothing flashes.
 */
export type SchemeChoice = "light" | "dark" | "auto";

export const SCHEME_KEY = "consilium.color-scheme";

/** The remembered choice; anything unreadable counts as "auto". */
export function rememberedScheme(): SchemeChoice {
  try {
    const value = window.localStorage.getItem(SCHEME_KEY);
    return value === "light" || value === "dark" ? value : "auto";
  } catch {
    // Storage can be switched off by policy; the page still works.
    return "auto";
  }
}

/** Put the scheme on the root element; walls force "dark". */
export function applyColorScheme(forced?: "light" | "dark"): void {
  const choice = forced ?? rememberedScheme();
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const scheme = choice === "auto" ? (systemDark ? "dark" : "light") : choice;
  document.documentElement.setAttribute("data-mantine-color-scheme", scheme);
}
