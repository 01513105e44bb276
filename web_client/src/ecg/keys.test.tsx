/** Measuring by keys alone (W32): what a hand does, without one. */
import { MantineProvider } from "@mantine/core";
import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { useState } from "react";
import { afterEach, beforeAll, expect, it } from "vitest";
import { ShortcutsDialog } from "../desk/ShortcutsDialog";
import { i18n } from "../i18n";
import type { StillLane, StillMap } from "../waveform/settings";
import { type Legs, StillLayer, type Tool } from "./StillLayer";

const STEP_US = 2_000;
const lane = (lead: string, topPx: number): StillLane => ({
  ...{ lead, xPx: 0, wPx: 500, topPx, bottomPx: topPx + 100, midPx: topPx + 50 },
  ...{ fromUs: 0, usPerPx: 2_000, uvPerPx: 10, derived: false },
});
const MAP: StillMap = { atUs: 0, lanes: [lane("I", 0), lane("II", 100)] };
/** No samples from 0.52 s to 0.53 s. */
const sample = async (_lead: string, atUs: number) => {
  const at = Math.round(atUs / STEP_US) * STEP_US;
  return { atUs: at, uv: at / 1000, valid: at < 520_000 || at >= 530_000 } as never;
};

let legs: Legs | null;
let problem: string | null;
const placed: unknown[] = [];

function Layer({ tool, map = MAP }: { tool: Tool; map?: StillMap }) {
  const [set, setLegs] = useState<Legs | null>(null);
  legs = set;
  return (
    <StillLayer
      {...{ map, tool, legs: set, stepUs: STEP_US, sample, hasMarch: false, marks: [], chosen: null, pointers: [] }}
      onLegs={setLegs}
      onPlace={(point) => placed.push(point)}
      onPoint={() => undefined}
      onChoose={() => undefined}
      onProblem={(found) => {
        problem = found;
      }}
    />
  );
}

const layer = () => screen.getByTestId("ecg-still-layer");
const press = (key: string, target: Element = layer(), shiftKey = false) =>
  act(async () => void fireEvent.keyDown(target, { key, shiftKey }));

beforeAll(async () => {
  window.matchMedia ??= (() => ({ matches: false, addEventListener: () => undefined })) as never;
  await i18n.changeLanguage("en");
});
afterEach(() => {
  cleanup();
  problem = null;
  placed.length = 0;
});

it("sets both ends: a sample at a time, with Shift ten, Enter sets", async () => {
  render(<Layer tool="caliper" />);
  expect(document.activeElement).toBe(layer());
  await press("ArrowRight");
  expect(screen.getByTestId("ecg-cursor-words").textContent).toBe("I, 500 ms, 0.50 mV");
  await press("ArrowRight");
  await press("ArrowLeft", layer(), true);
  expect(legs).toBeNull();
  await press("Enter");
  expect(legs).toEqual({ from: { lead: "I", atUs: 482_000, uv: 482 }, to: null, isFixed: false });
  await press("PageDown");
  await press("ArrowLeft");
  // The other strip is another lead: not while an end is open.
  await press("ArrowDown");
  expect(legs?.to).toEqual({ lead: "I", atUs: 680_000, uv: 680 });
  await press("Enter");
  expect([legs?.isFixed, legs?.to?.atUs]).toEqual([true, 680_000]);
  expect(screen.queryByTestId("ecg-cursor")).toBeNull();

  // Tab goes from end to end; each moves where it is, and the cursor stays away.
  const [first, second] = screen.getAllByRole("slider");
  expect([first?.getAttribute("tabindex"), second?.getAttribute("tabindex")]).toEqual(["0", "0"]);
  await press("ArrowRight", second, true);
  await press("ArrowLeft", first);
  expect([legs?.from.atUs, legs?.to?.atUs, legs?.isFixed]).toEqual([480_000, 700_000, true]);
  expect(screen.queryByTestId("ecg-cursor")).toBeNull();
});

it("crosses a gap, but sets nothing in it", async () => {
  render(<Layer tool="caliper" />);
  for (const _ of [1, 2, 3]) await press("ArrowRight", layer(), true);
  await press("ArrowLeft");
  await press("ArrowLeft", layer(), true);
  await press("ArrowRight");
  await press("ArrowRight", layer(), false);
  expect(screen.getByTestId("ecg-cursor-words").textContent).toBe("I, 522 ms, no sample");
  await press("Enter");
  expect([legs, problem]).toEqual([null, "noSample"]);
  await press("ArrowRight", layer(), true);
  await press("Enter");
  expect(legs?.from.atUs).toBe(542_000);
});

it("takes back an open end, keeps to the page, and goes to another lead before the first", async () => {
  render(<Layer tool="qt" />);
  await press("ArrowDown");
  await press("ArrowDown");
  await press("Enter");
  expect(legs?.from).toMatchObject({ lead: "II", atUs: 500_000 });
  await press("Escape");
  expect(legs).toBeNull();
  await press("ArrowLeft");
  for (let k = 0; k < 6; k += 1) await press("PageUp");
  await press("Enter");
  expect(legs).toMatchObject({ from: { atUs: 0 } });
});

it("puts a mark where the cursor is, which stays through a repaint of the same page", async () => {
  const { rerender } = render(<Layer tool="note" />);
  await press("ArrowRight");
  rerender(<Layer tool="note" map={{ ...MAP }} />);
  await press("Enter");
  expect(placed).toEqual([{ lead: "I", atUs: 500_000, uv: 500 }]);
  rerender(<Layer tool="note" map={{ ...MAP, lanes: [lane("V1", 0)] }} />);
  expect(screen.queryByTestId("ecg-cursor")).toBeNull();
});

it("is named in the list of keys", () => {
  render(
    <MantineProvider>
      <ShortcutsDialog opened isOn onSwitch={() => undefined} onClose={() => undefined} />
    </MantineProvider>,
  );
  const list = screen.getByRole("dialog").textContent;
  for (const words of ["move by one sample", "by ten samples", "set an end", "to the other end"]) {
    expect(list).toContain(words);
  }
});
