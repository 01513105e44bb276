/** Addresses of the app, and which of them a link may lead to. */

/** A path of our own to go to after signing in; anything else leads to the start. */
export function safeNext(value: string | null): string {
  if (value === null) return "/";
  // "//host" and "/\host" are other origins to a browser.
  return /^\/(?![/\\])[\w\-./?=&%~:]*$/.test(value) && !value.startsWith("/login") ? value : "/";
}

export function loginPath(next: string, reason?: "expired" | "out"): string {
  const query = new URLSearchParams();
  if (safeNext(next) !== "/") query.set("next", next);
  if (reason !== undefined) query.set("why", reason);
  const text = query.toString();
  return text === "" ? "/login" : `/login?${text}`;
}

export const consultPath = (id: string): string => `/consult/${encodeURIComponent(id)}`;

/**
 * The one-time token of an invitation, taken out of the address bar.
 *
 * It stands behind the "#", so no server and no log ever sees it; replacing the
 * history entry keeps it from the next person at this browser.
 */
export function takeGuestToken(location: Location, history: History): string {
  const token = location.hash.replace(/^#/, "");
  if (location.hash !== "") history.replaceState(null, "", location.pathname + location.search);
  return /^[A-Za-z0-9._~-]{1,512}$/.test(token) ? token : "";
}
