/**
 * Whether this display takes its waveforms by WebSocket always, kept in this browser.
 *
 * A wall on the hospital's own network may: there it loses nothing and costs the server a tenth. Its installer opens it
 * once with `?waveforms=socket` (or `=auto` to take that back); on a desk the information panel has the switch.
 */
import type { EcgProfile } from "../media/ecgLinkPath";

const KEY = "consilium.ecg.way";

/** The address wins and is remembered; then what was remembered; else automatic. */
export function rememberedProfile(search: string = window.location.search): EcgProfile {
  const asked = new URLSearchParams(search).get("waveforms");
  if (asked === "socket" || asked === "auto") {
    rememberProfile(asked);
    return asked;
  }
  try {
    return localStorage.getItem(KEY) === "socket" ? "socket" : "auto";
  } catch {
    return "auto";
  }
}

export function rememberProfile(profile: EcgProfile): void {
  try {
    localStorage.setItem(KEY, profile);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}
