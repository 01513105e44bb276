/**
 * What the steps of the network test mean: which port in which direction, whether consults will work, and the report.
 *
 * A number of an ICE error helps nobody. Each step names protocol, port and address as a person would have to ask
 * their IT for them. Pure; carrying the steps out is `probe.ts`, the sentences are in i18n/parts/nettest.
 */

export const STEPS = ["websocket", "latency", "udp", "tcp", "turn", "media"] as const;
export type StepId = (typeof STEPS)[number];

/**
 * `blocked`: it was tried and did not get through. `absent`: this hub does not offer it. `skipped`: it could not be tried,
 * because of an earlier step or for want of a sign-in. `failed`: the hub declined, which says nothing about the network.
 */
export type StepState = "waiting" | "running" | "good" | "slow" | "blocked" | "absent" | "skipped" | "failed";

export interface Target {
  readonly protocol: "TCP" | "UDP" | "TLS";
  readonly port: number;
  readonly hosts: readonly string[];
}

export interface Step {
  readonly id: StepId;
  readonly state: StepState;
  readonly target: Target | null;
  /** Round trip, or time to connect. */
  readonly ms: number | null;
  readonly lostPercent: number | null;
  /** Refusal code of a failed step. */
  readonly code: string | null;
}

export const fresh = (id: StepId): Step => ({
  id,
  state: "waiting",
  target: null,
  ms: null,
  lostPercent: null,
  code: null,
});

/** Above this people talk over each other. */
export const SLOW_MS = 300;
export const MUCH_LOST_PERCENT = 5;

export function measured(step: Step, ms: number, lostPercent: number | null = null): Step {
  const isSlow = ms > SLOW_MS || (lostPercent ?? 0) > MUCH_LOST_PERCENT;
  return { ...step, state: isSlow ? "slow" : "good", ms: Math.round(ms), lostPercent };
}

/** Where a page's own socket goes. */
export function socketTarget(location: { protocol: string; hostname: string; port: string }): Target {
  const isSecure = location.protocol === "https:";
  const port = location.port === "" ? (isSecure ? 443 : 80) : Number(location.port);
  return { protocol: "TCP", port, hosts: [location.hostname] };
}

/** Where a media plane listens, by protocol; `null` when it does not. */
export function candidateTarget(candidates: readonly object[], protocol: "udp" | "tcp"): Target | null {
  const fitting = candidates.filter((candidate) => text(candidate, "protocol") === protocol);
  const [first] = fitting;
  if (first === undefined) return null;
  const hosts = fitting.map((candidate) => text(candidate, "address") || text(candidate, "ip"));
  return {
    protocol: protocol === "udp" ? "UDP" : "TCP",
    port: Number((first as { port?: unknown }).port),
    hosts: [...new Set(hosts)],
  };
}

const text = (candidate: object, name: string): string => {
  const value = (candidate as Readonly<Record<string, unknown>>)[name];
  return typeof value === "string" ? value : "";
};

/** `turn:hub:3478?transport=tcp`, `turns:hub:443?transport=tcp`, `turn:[2001:db8::1]` (RFC 7065). */
export function turnTarget(url: string): Target | null {
  const match = /^(turns?):(\[[^\]]+\]|[^:?]+)(?::(\d+))?(?:\?transport=(udp|tcp))?$/.exec(url);
  if (match === null) return null;
  const isTls = match[1] === "turns";
  const host = (match[2] ?? "").replace(/^\[|\]$/g, "");
  return {
    protocol: isTls ? "TLS" : match[4] === "tcp" ? "TCP" : "UDP",
    port: Number(match[3] ?? (isTls ? 5349 : 3478)),
    hosts: [host],
  };
}

/** The most useful first: what only TLS lets through is what a strict firewall leaves. */
export function turnOrder(urls: readonly string[]): readonly string[] {
  const rank = { TLS: 0, TCP: 1, UDP: 2 } as const;
  const known = urls.flatMap((url) => {
    const target = turnTarget(url);
    return target === null ? [] : [{ url, rank: rank[target.protocol] }];
  });
  return known.sort((a, b) => a.rank - b.rank).map(({ url }) => url);
}

export type Conclusion = "good" | "slow" | "detour" | "no_media" | "no_socket" | "sign_in" | "unfinished" | "declined";

/** Whether a consult will work on this network, from finished steps. */
export function conclude(steps: readonly Step[]): Conclusion {
  const by = (id: StepId): StepState => steps.find((step) => step.id === id)?.state ?? "waiting";
  const works = (id: StepId): boolean => by(id) === "good" || by(id) === "slow";
  if (by("websocket") === "blocked") return "no_socket";
  if (steps.some(({ state }) => state === "waiting" || state === "running")) return "unfinished";
  if (steps.some(({ state }) => state === "failed")) return "declined";
  if (by("media") === "skipped" && by("udp") === "skipped") return "sign_in";
  if (!works("media")) return "no_media";
  if (!works("udp")) return "detour";
  return steps.some(({ id, state }) => state === "slow" && id !== "turn") ? "slow" : "good";
}

/** What can be sent to an IT department: no names, no tokens, nothing of the person's own addresses. */
export function report(steps: readonly Step[], page: { origin: string; browser: string; at: string }): string {
  return JSON.stringify({ consilium_network_test: 1, ...page, conclusion: conclude(steps), steps }, null, 2);
}
