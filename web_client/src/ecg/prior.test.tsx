/** The earlier ECG beside the present one: which it is, and from when. */
import { MantineProvider } from "@mantine/core";
import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeAll, expect, it, vi } from "vitest";
import { i18n } from "../i18n";
import type { RecordedStream } from "./api";
import type { FrameHistory } from "./history";
import { PriorDialog, PriorPane } from "./PriorPane";
import { clockOf } from "./review";

vi.mock("../waveform/EcgStill", () => ({
  EcgStill: ({ fromUs }: { fromUs: number }) => <output data-testid="still">{fromUs}</output>,
}));

const T0 = 1_790_000_004_000_000;
const recorded = (id: string, firstUs: number, seconds: number): RecordedStream => ({
  ...{ id, kind: "live", isLive: false, title: "", version: 1, frames: 1, gaps: 0, lost: 0 },
  ...{ firstUs, lastUs: firstUs + seconds * 1e6 },
  stream: {
    ...{ stream_id: 7, leads: ["I"], sample_rate_mhz: 500_000, lsb_nv: 1_000 },
    ...{ device: "monitor", filter: "", simulated: true, patient: "p" },
  },
});

beforeAll(async () => {
  window.matchMedia ??= (() => ({ matches: false, addEventListener: () => undefined })) as never;
  await i18n.changeLanguage("en");
});
afterEach(cleanup);

it("each recording can be chosen, also where a device came back with the number it had", () => {
  const chosen: string[] = [];
  const errors = vi.spyOn(console, "error").mockImplementation(() => undefined);
  const nothing = (): void => undefined;
  render(
    <MantineProvider>
      <PriorDialog
        opened
        streams={[recorded("w1", T0, 60), recorded("w2", T0 + 600e6, 60)]}
        {...{ isLoading: false, error: null, canImport: false, onRetry: nothing, onImport: nothing, onClose: nothing }}
        onChoose={({ id }) => chosen.push(id)}
      />
    </MantineProvider>,
  );
  for (const choice of screen.getAllByTestId(/^prior-/)) fireEvent.click(choice);
  expect(chosen).toEqual(["w2", "w1"]);
  expect(errors.mock.calls.filter(([text]) => String(text).includes("same key"))).toEqual([]);
  errors.mockRestore();
});

it("the page begins at the time that the slider says, whatever was fetched", async () => {
  const asked: number[] = [];
  const history = {
    range: async (fromUs: number) => {
      asked.push(fromUs);
      return [];
    },
  } as unknown as FrameHistory;
  const look = { theme: "light", lang: "en" } as const;
  render(
    <MantineProvider>
      <PriorPane prior={recorded("w1", T0, 120)} history={history} look={look} onClose={() => undefined} />
    </MantineProvider>,
  );
  const slider = await screen.findByRole("slider");
  await act(async () => void fireEvent.change(slider, { target: { value: "25" } }));
  const fromUs = T0 + 25e6;
  expect(screen.getByTestId("still").textContent).toBe(String(fromUs));
  expect(slider.getAttribute("aria-valuetext")).toBe(clockOf(fromUs, "en"));
  expect(asked.at(-1)).toBe(fromUs);
  expect(Number(slider.getAttribute("max"))).toBeLessThan(120);
});
