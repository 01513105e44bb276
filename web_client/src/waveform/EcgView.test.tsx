/** What the page says when the drawing side falls silent. */
import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { EcgView } from "./EcgView";
import type { EcgMount } from "./mount";
import type { EcgStatus } from "./settings";

const mounts = vi.hoisted<EcgMount[]>(() => []);
vi.mock("./mount", () => ({
  mountEcg: (_element: HTMLElement, mount: EcgMount) => {
    mounts.push(mount);
    const ignore = (): void => undefined;
    return {
      ...{ setSettings: ignore, setContext: ignore, setBound: ignore, setVideoDelay: ignore, setStill: ignore },
      ...{ sample: async () => null, drawn: async () => [], dispose: ignore },
    };
  },
}));

const LIVE = { state: "LIVE", ageMs: 200, sync: "in_sync", framesPerSecond: 60, paintMs: 1 } as EcgStatus;
const STREAM = {
  ...{ stream_id: 7, leads: ["I"], sample_rate_mhz: 500_000, lsb_nv: 1_000 },
  ...{ device: "monitor", filter: "", simulated: false, patient: "p" },
};

beforeEach(() => {
  mounts.length = 0;
  vi.useFakeTimers();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

const channel = {
  open: true,
  ...{ onFrame: () => () => undefined, onControl: () => () => undefined, onOpenChange: () => () => undefined },
  sendControl: () => undefined,
};
const view = (told: EcgStatus[], stream = STREAM) => (
  <EcgView
    stream={stream}
    channel={channel}
    contextVersion={1}
    theme="light"
    lang="en"
    onState={(status) => told.push(status)}
  />
);

it("[W14] covers a picture that nobody vouches for, and tells the page around that it is lost", () => {
  const told: EcgStatus[] = [];
  render(view(told));
  const say = (): void => act(() => mounts[0]?.onStatus(LIVE));
  say();
  act(() => void vi.advanceTimersByTime(5_000));
  expect(screen.getByTestId("ecg").dataset.state).toBe("LOST");
  expect(screen.getByRole("alert").textContent).toContain("DISPLAY STOPPED");
  expect(told.map(({ state, ageMs }) => [state, ageMs])).toEqual([
    ["LIVE", 200],
    ["LOST", null],
  ]);
  say();
  expect(told.at(-1)?.state).toBe("LIVE");
  expect(screen.queryByRole("alert")).toBeNull();
});

it("[W14] says that it is starting, as lost, until it paints; and that it has stopped when it never does", () => {
  render(view([]));
  const ecg = screen.getByTestId("ecg");
  act(() => void vi.advanceTimersByTime(5_000));
  expect([ecg.dataset.state, screen.getByTestId("ecg-starting").textContent]).toEqual([
    "LOST",
    "The display is starting",
  ]);
  expect(screen.queryByRole("alert")).toBeNull();
  act(() => void vi.advanceTimersByTime(6_000));
  expect([ecg.dataset.state, screen.getByRole("alert").textContent]).toEqual([
    "LOST",
    "DISPLAY STOPPEDtrace frozen, not live",
  ]);
  expect(screen.queryByTestId("ecg-starting")).toBeNull();
});

it("[W5] says nothing of a new signal before it has drawn it", () => {
  const { rerender } = render(view([]));
  act(() => mounts[0]?.onStatus(LIVE));
  rerender(view([], { ...STREAM, stream_id: 8 }));
  expect(screen.getByTestId("ecg").dataset.state).toBe("LOST");
  act(() => mounts[1]?.onStatus(LIVE));
  expect(screen.getByTestId("ecg").dataset.state).toBe("LIVE");
});
