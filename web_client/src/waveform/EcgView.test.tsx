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

it("[W14] covers a picture that nobody vouches for, and tells the page around that it is lost", () => {
  const told: EcgStatus[] = [];
  const channel = {
    open: true,
    ...{ onFrame: () => () => undefined, onControl: () => () => undefined, onOpenChange: () => () => undefined },
    sendControl: () => undefined,
  };
  render(
    <EcgView
      stream={STREAM}
      channel={channel}
      contextVersion={1}
      theme="light"
      lang="en"
      onState={(status) => told.push(status)}
    />,
  );
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
