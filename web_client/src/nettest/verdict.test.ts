import { describe, expect, it } from "vitest";
import {
  candidateTarget,
  conclude,
  fresh,
  measured,
  report,
  STEPS,
  type Step,
  type StepState,
  socketTarget,
  turnOrder,
  turnTarget,
} from "./verdict";

const candidates = [
  { protocol: "udp", address: "192.0.2.10", port: 8441 },
  { protocol: "udp", ip: "2001:db8::1", port: 8441 },
  { protocol: "udp", address: "192.0.2.10", port: 8441 },
  { protocol: "tcp", address: "192.0.2.10", port: 8442, tcpType: "passive" },
];

describe("ports and addresses in words", () => {
  it.each([
    ["udp", { protocol: "UDP", port: 8441, hosts: ["192.0.2.10", "2001:db8::1"] }],
    ["tcp", { protocol: "TCP", port: 8442, hosts: ["192.0.2.10"] }],
  ] as const)("the media plane's %s", (protocol, target) => {
    expect(candidateTarget(candidates, protocol)).toEqual(target);
  });

  it("a media plane without TCP has no TCP port", () => {
    expect(candidateTarget(candidates.slice(0, 3), "tcp")).toBeNull();
  });

  it.each([
    ["turn:hub:3478?transport=udp", { protocol: "UDP", port: 3478, hosts: ["hub"] }],
    ["turn:hub", { protocol: "UDP", port: 3478, hosts: ["hub"] }],
    ["turn:hub:80?transport=tcp", { protocol: "TCP", port: 80, hosts: ["hub"] }],
    ["turns:hub.example:443?transport=tcp", { protocol: "TLS", port: 443, hosts: ["hub.example"] }],
    ["turns:hub", { protocol: "TLS", port: 5349, hosts: ["hub"] }],
    ["turn:[2001:db8::1]:3478", { protocol: "UDP", port: 3478, hosts: ["2001:db8::1"] }],
    ["stun:hub", null],
    ["nonsense", null],
  ])("%s", (url, target) => {
    expect(turnTarget(url)).toEqual(target);
  });

  it("tries what passes the strictest firewall first", () => {
    const urls = ["turn:a?transport=udp", "bad", "turns:a?transport=tcp", "turn:a?transport=tcp"];
    expect(turnOrder(urls)).toEqual(["turns:a?transport=tcp", "turn:a?transport=tcp", "turn:a?transport=udp"]);
  });

  it.each([
    [{ protocol: "https:", hostname: "hub", port: "" }, 443],
    [{ protocol: "http:", hostname: "localhost", port: "" }, 80],
    [{ protocol: "https:", hostname: "hub", port: "8440" }, 8440],
  ])("the page's own socket at %o", (location, port) => {
    expect(socketTarget(location)).toEqual({ protocol: "TCP", port, hosts: [location.hostname] });
  });
});

const steps = (states: Partial<Record<(typeof STEPS)[number], StepState>>): readonly Step[] =>
  STEPS.map((id) => ({ ...fresh(id), state: states[id] ?? "good" }));

describe("whether a consult will work", () => {
  it.each([
    [{}, "good"],
    [{ turn: "absent" }, "good"],
    [{ turn: "blocked" }, "good"],
    [{ tcp: "blocked" }, "good"],
    [{ latency: "slow" }, "slow"],
    [{ media: "slow" }, "slow"],
    [{ udp: "blocked" }, "detour"],
    [{ udp: "blocked", tcp: "absent" }, "detour"],
    [{ udp: "blocked", tcp: "blocked", turn: "absent", media: "blocked" }, "no_media"],
    [{ media: "blocked" }, "no_media"],
    [{ websocket: "blocked", latency: "skipped", udp: "skipped", tcp: "skipped", turn: "skipped" }, "no_socket"],
    [{ udp: "skipped", tcp: "skipped", turn: "skipped", media: "skipped" }, "sign_in"],
    [{ udp: "failed", tcp: "skipped", turn: "skipped", media: "skipped" }, "declined"],
    [{ media: "running" }, "unfinished"],
  ] as const)("%o: %s", (states, conclusion) => {
    expect(conclude(steps(states))).toBe(conclusion);
  });

  it("calls slow what people notice", () => {
    expect(measured(fresh("udp"), 299.6).state).toBe("good");
    expect(measured(fresh("udp"), 301).state).toBe("slow");
    expect(measured(fresh("media"), 20, 6).state).toBe("slow");
    expect(measured(fresh("media"), 20, 5).state).toBe("good");
  });
});

it("reports what IT needs and nothing secret", () => {
  const udp = { ...fresh("udp"), state: "blocked" as const, target: candidateTarget(candidates, "udp") };
  const written = JSON.parse(report([udp], { origin: "https://hub", browser: "B", at: "2026-11-21T00:00:00Z" }));
  expect(written.steps[0].target).toEqual({ protocol: "UDP", port: 8441, hosts: ["192.0.2.10", "2001:db8::1"] });
  expect(Object.keys(written)).toEqual(["consilium_network_test", "origin", "browser", "at", "conclusion", "steps"]);
  expect(Object.keys(written.steps[0])).toEqual(["id", "state", "target", "ms", "lostPercent", "code"]);
});
