/**
 * Which way media take through a firewall, and when another way is tried.
 *
 * At first everything at once: the browser tries UDP, TCP and TURN side by side and takes what works. That finds a way
 * wherever UDP is blocked. It does not help where UDP passes but is thinned out by a device on the way, or where a pair
 * is chosen that then fails. So a path that failed although the server could be reached, or that lost a quarter of its
 * packets for twenty seconds, is built anew without UDP: plain TCP to the relay first, TURN over TCP or TLS after
 * that, and in the end everything again. What worked is kept for as long as the page lives.
 *
 * Pure: who measures and rebuilds is `session.ts`.
 */

export type Route = "any" | "tcp" | "relay";

/** The path that is used now, as a person is told it. */
export type Via = "udp" | "tcp" | "turn-udp" | "turn-tcp" | "turn-tls";

export interface IceServer {
  readonly urls: readonly string[];
  readonly username: string;
  readonly credential: string;
}

export interface Offer<Candidate> {
  readonly candidates: readonly Candidate[];
  readonly servers: readonly IceServer[];
}

export interface Choice<Candidate> extends Offer<Candidate> {
  readonly policy: "all" | "relay";
}

interface AnyCandidate {
  readonly protocol?: unknown;
}

/** Ways that this offer allows, in the order in which they are tried. */
export function routesOf(offer: Offer<AnyCandidate>): readonly Route[] {
  const routes: Route[] = ["any"];
  if (offer.candidates.some(isTcp)) routes.push("tcp");
  if (overTcp(offer.servers).length > 0) routes.push("relay");
  return routes;
}

/** The way after `route`; the first again after the last. */
export function nextRoute(route: Route, available: readonly Route[]): Route {
  return available[(available.indexOf(route) + 1) % available.length] ?? "any";
}

/**
 * What of an offer a Transport is built with; everything when the offer no longer has that way.
 *
 * By relay, the far end of the TURN server still reaches the media plane over UDP, so its UDP candidates stay and the
 * policy keeps our own UDP out; towards TCP candidates a TURN server cannot speak at all.
 */
export function choose<Candidate extends AnyCandidate>(offer: Offer<Candidate>, route: Route): Choice<Candidate> {
  if (!routesOf(offer).includes(route) || route === "any") return { ...offer, policy: "all" };
  if (route === "tcp") return { candidates: offer.candidates.filter(isTcp), servers: [], policy: "all" };
  return {
    candidates: offer.candidates.filter((candidate) => !isTcp(candidate)),
    servers: overTcp(offer.servers),
    policy: "relay",
  };
}

const isTcp = ({ protocol }: AnyCandidate): boolean => protocol === "tcp";

function overTcp(servers: readonly IceServer[]): readonly IceServer[] {
  return servers
    .map((server) => ({ ...server, urls: server.urls.filter((url) => /^turns:|[?&]transport=tcp/.test(url)) }))
    .filter(({ urls }) => urls.length > 0);
}

/** Whether each of the last reports was bad, newest last. */
export type LossReports = readonly boolean[];

export const REPORTS = 16;
export const BAD_REPORTS = 10;
export const BAD_SHARE = 0.25;

/** Fold one report of the share of packets lost, 0 to 1. */
export function onLoss(reports: LossReports, lost: number): LossReports {
  return [...reports, lost >= BAD_SHARE].slice(-REPORTS);
}

/** Reports come every two seconds. A line that is bad for twenty does not get better by waiting; one bad burst does. */
export function isPersistentlyBad(reports: LossReports): boolean {
  return reports.filter((bad) => bad).length >= BAD_REPORTS;
}

/** Only UDP is given up for its losses: what TCP and a relay over TCP lose, they repeat. */
export function shouldLeave(via: Via | null, reports: LossReports, available: readonly Route[]): boolean {
  return (via === "udp" || via === "turn-udp") && available.length > 1 && isPersistentlyBad(reports);
}
