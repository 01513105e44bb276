import { describe, expect, it } from "vitest";
import { choose, isPersistentlyBad, type LossReports, nextRoute, onLoss, routesOf, shouldLeave } from "./route";

const udp = { protocol: "udp", port: 8441 };
const tcp = { protocol: "tcp", port: 8441 };
const turn = {
  urls: ["turn:hub:3478?transport=udp", "turn:hub:3478?transport=tcp", "turns:hub:443?transport=tcp"],
  username: "u",
  credential: "c",
};
const turnUdp = { urls: ["turn:hub:3478"], username: "u", credential: "c" };

describe("which ways there are", () => {
  it.each([
    [[udp], [], ["any"]],
    [[udp, tcp], [], ["any", "tcp"]],
    [[udp], [turn], ["any", "relay"]],
    [[udp, tcp], [turn], ["any", "tcp", "relay"]],
    [[udp], [turnUdp], ["any"]],
  ])("%o with servers %o", (candidates, servers, routes) => {
    expect(routesOf({ candidates, servers })).toEqual(routes);
  });

  it("goes round, so that a way that fails is never the last word", () => {
    const all = routesOf({ candidates: [udp, tcp], servers: [turn] });
    expect(nextRoute("any", all)).toBe("tcp");
    expect(nextRoute("tcp", all)).toBe("relay");
    expect(nextRoute("relay", all)).toBe("any");
    expect(nextRoute("any", ["any"])).toBe("any");
    expect(nextRoute("relay", ["any", "tcp"])).toBe("any");
  });
});

describe("what a Transport is built with", () => {
  const offer = { candidates: [udp, tcp], servers: [turn] };

  it("everything at once at first", () => {
    expect(choose(offer, "any")).toEqual({ ...offer, policy: "all" });
  });

  it("TCP alone leaves no UDP on either end", () => {
    expect(choose(offer, "tcp")).toEqual({ candidates: [tcp], servers: [], policy: "all" });
  });

  it("a relay is reached over TCP or TLS, and speaks UDP to the media plane", () => {
    expect(choose(offer, "relay")).toEqual({
      candidates: [udp],
      servers: [{ ...turn, urls: ["turn:hub:3478?transport=tcp", "turns:hub:443?transport=tcp"] }],
      policy: "relay",
    });
  });

  it("a way that the server no longer offers is not insisted on", () => {
    const poor = { candidates: [udp], servers: [] };
    expect(choose(poor, "tcp")).toEqual({ ...poor, policy: "all" });
    expect(choose(poor, "relay")).toEqual({ ...poor, policy: "all" });
  });
});

const fold = (losses: readonly number[]): LossReports => losses.reduce<LossReports>(onLoss, []);
const times = (count: number, lost: number): number[] => Array<number>(count).fill(lost);

describe("when UDP is given up", () => {
  it.each([
    ["a clean line", times(100, 0), false],
    ["a quarter lost, 9 times", times(9, 0.25), false],
    ["a quarter lost, 10 times", times(10, 0.25), true],
    ["just below a quarter, for ever", times(100, 0.249), false],
    ["10 bad ones among 16", [...times(6, 0), ...times(10, 0.4)], true],
    ["10 bad ones, but not among the last 16", [...times(10, 0.9), ...times(7, 0)], false],
    ["every second one bad", Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? 1 : 0)), false],
  ])("%s", (_, losses, bad) => {
    expect(isPersistentlyBad(fold(losses))).toBe(bad);
  });

  it.each([
    ["udp", ["any", "tcp"], true],
    ["turn-udp", ["any", "relay"], true],
    ["udp", ["any"], false],
    ["tcp", ["any", "tcp"], false],
    ["turn-tls", ["any", "relay"], false],
    [null, ["any", "tcp"], false],
  ] as const)("on %s with %o", (via, available, leaves) => {
    expect(shouldLeave(via, fold(times(16, 0.5)), available)).toBe(leaves);
  });
});
