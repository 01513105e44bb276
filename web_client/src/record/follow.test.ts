/** Fractions survive other screen sizes; signals about anything else are ignored; the last position always arrives. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { isAbout, scrollFraction, scrollTopFor, throttle } from "./follow";
import { neighbour } from "./PageTabs";

describe("scroll fractions", () => {
  it("reach both ends on a screen of another size", () => {
    const lead = { scrollTop: 600, scrollHeight: 1000, clientHeight: 400 };
    const follower = { scrollTop: 0, scrollHeight: 5000, clientHeight: 800 };
    expect(scrollFraction(lead)).toBe(1);
    expect(scrollTopFor(follower, 1)).toBe(4200);
    expect(scrollTopFor(follower, 0.5)).toBe(2100);
  });

  it("are zero where nothing scrolls, and stay within the box whatever comes", () => {
    const box = { scrollTop: 0, scrollHeight: 300, clientHeight: 400 };
    expect(scrollFraction(box)).toBe(0);
    expect(scrollTopFor(box, 1)).toBe(0);
    expect(scrollTopFor({ ...box, scrollHeight: 1400 }, Number.NaN)).toBe(0);
    expect(scrollTopFor({ ...box, scrollHeight: 1400 }, 7)).toBe(1000);
  });
});

describe("isAbout", () => {
  const signal = { context_version: 4, view: { page: "labs", item: "" }, y: 0 } as const;

  it("[W19] ignores another version, page or entry", () => {
    expect(isAbout(signal, 4, { page: "labs", item: "" })).toBe(true);
    expect(isAbout(signal, 5, { page: "labs", item: "" })).toBe(false);
    expect(isAbout(signal, 4, { page: "summary", item: "" })).toBe(false);
    expect(isAbout(signal, 4, { page: "labs", item: "2823-3" })).toBe(false);
  });
});

describe("throttle", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("calls at once, then at most once per interval with the newest value, and never loses the last", () => {
    const seen: number[] = [];
    const send = throttle((value: number) => seen.push(value), 100);

    for (let value = 0; value < 50; value += 1) {
      send(value);
      vi.advanceTimersByTime(10);
    }
    vi.advanceTimersByTime(1000);

    expect(seen[0]).toBe(0);
    expect(seen.at(-1)).toBe(49);
    expect(seen.length).toBeLessThanOrEqual(7);
  });

  it("drops what waits when cancelled", () => {
    const seen: number[] = [];
    const send = throttle((value: number) => seen.push(value), 100);
    send(1);
    send(2);
    send.cancel();
    vi.advanceTimersByTime(1000);
    expect(seen).toEqual([1]);
  });
});

describe("neighbour", () => {
  it("walks the tabs in a ring and leaves other keys alone", () => {
    expect(neighbour("summary", "ArrowRight")).toBe("problems");
    expect(neighbour("summary", "ArrowLeft")).toBe("history");
    expect(neighbour("history", "ArrowRight")).toBe("summary");
    expect(neighbour("labs", "Home")).toBe("summary");
    expect(neighbour("labs", "Enter")).toBeNull();
  });
});
