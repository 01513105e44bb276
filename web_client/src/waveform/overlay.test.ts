/** What is written on every strip, and what is never left out. */
import { beforeEach, describe, expect, it } from "vitest";
import type { WaveformStream } from "../protocol/messages";
import { UNCALIBRATED } from "./calibration";
import { FakeCanvas } from "./fakeCanvas";
import { computePage, type PageRequest } from "./geometry";
import { filterText, type OverlayModel, type OverlayStyle, paintOverlay, scaleText } from "./overlay";
import type { Context2d } from "./paper";
import { TWELVE_LEADS } from "./testFrames";
import { WORDS } from "./words";

const STREAM: WaveformStream = {
  stream_id: 7,
  leads: [...TWELVE_LEADS],
  sample_rate_mhz: 250_000,
  lsb_nv: 1000,
  device: "Monitor at bed 3",
  filter: "",
  simulated: false,
  patient: "p",
};
const MODEL: OverlayModel = {
  state: "LIVE",
  ageMs: 200,
  lostMs: null,
  sync: "in_sync",
  hasClock: true,
  clockErrorMs: 5,
  clockUnsynced: false,
  leadOffMask: 0,
  saturatedMask: 0,
  limbError: false,
  settling: false,
  still: null,
  dateUs: null,
};
const SCALED = { pxPerMmX: 4, pxPerMmY: 4, calibrated: true };

let canvas: FakeCanvas;

function styleOf(
  more: Partial<Omit<OverlayStyle, "page" | "request">> = {},
  page: Partial<PageRequest> = {},
  surface: Partial<PageRequest["surface"]> = {},
): OverlayStyle {
  const stream = more.stream ?? STREAM;
  const request: PageRequest = {
    surface: { width: 1400, height: 700, dpr: 1, calibration: UNCALIBRATED, theme: "light", ...surface },
    leads: stream.leads,
    sampleRateMhz: stream.sample_rate_mhz,
    layout: "3x4+1",
    speedMmS: 25,
    gainMmMv: 10,
    ...page,
  };
  const { theme } = request.surface;
  return { stream, language: "en", filter: "off", notch: 0, ...more, theme, request, page: computePage(request) };
}

function painted(style: OverlayStyle, model: Partial<OverlayModel> = {}): string {
  canvas.forget();
  paintOverlay(canvas.getContext() as Context2d, style, { ...MODEL, ...model });
  return canvas.words.join("\n");
}

beforeEach(() => {
  canvas = new FakeCanvas();
});

describe("the text on the strips", () => {
  it("[W26] [W27] [W29] names speed, gain, both filters and a scale that is not true, on a phone too", () => {
    const small = { width: 390, height: 700 };
    for (const surface of [{}, small]) {
      for (const language of ["en", "zh"] as const) {
        const words = WORDS[language];
        const style = styleOf({ language, filter: "monitor", notch: 50 }, { speedMmS: 50, gainMmMv: 20 }, surface);
        const text = painted(style, { clockUnsynced: true, clockErrorMs: 900, settling: true });
        for (const must of ["50 mm/s", "20 mm/mV", words.filterUnknown, words.notToScale, "0.5–40 Hz", "50 Hz"]) {
          expect(text).toContain(must);
        }
        expect(text).toContain(words.warning.slice(0, 6));
      }
    }
  });

  it("[W27] says nothing of scale once the display is measured, and how far a wall enlarges", () => {
    expect(painted(styleOf({}, {}, { calibration: SCALED }))).not.toContain(WORDS.en.notToScale);
    const wall = styleOf({}, {}, { width: 1920, height: 1080, theme: "wall", calibration: UNCALIBRATED });
    expect(wall.page.zoom).toBe(2);
    expect(painted(wall)).toContain("far view ×2");
    expect(painted(wall)).toContain("10 mm/mV ×2");
  });

  it("[W31] writes every lead's name, of empty slots too, and -aVR as such", () => {
    const stream = { ...STREAM, leads: ["I", "II", "V1", "V2", "V3", "V4"] };
    const words = painted(styleOf({ stream }, { order: "cabrera" })).split("\n");
    for (const name of ["I", "II", "III", "-aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]) {
      expect(words).toContain(name);
    }
    expect(words).not.toContain("aVR");
    expect(words.filter((word) => word === WORDS.en.derived)).toHaveLength(4);
    expect(words.filter((word) => word === WORDS.en.notSent)).toHaveLength(2);
  });

  it("[W6] [W7] names leads that are off or saturated, computed ones with them, and limb leads that disagree", () => {
    const stream = { ...STREAM, leads: ["I", "II", "V1", "V2", "V3", "V4"] };
    const off = painted(styleOf({ stream }), { leadOffMask: 1 }).split("\n");
    expect(off.filter((word) => word === WORDS.en.leadOff)).toHaveLength(5);
    const saturated = painted(styleOf(), { saturatedMask: 1 << 6 });
    expect(saturated).toContain("SATURATED");
    expect(painted(styleOf(), { limbError: true })).toContain(WORDS.en.limbError);
    expect(painted(styleOf())).not.toContain(WORDS.en.limbError);
  });

  it("[W12] greys and crosses the live trace, never a page that stands still, whose live state is beside it", () => {
    const still = { atUs: 1_763_712_000_000_000, sinceMs: 65_000, isLoading: false };
    expect(painted(styleOf(), { state: "LOST", lostMs: 1_000 })).toContain(WORDS.en.frozen);
    const text = painted(styleOf(), { state: "LOST", lostMs: 1_000, still });
    expect(text).not.toContain(WORDS.en.frozen);
    expect(text).toMatch(/FROZEN \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(01:05\)/);
    expect(text).toContain("live goes on: ✕ LOST");
    expect(painted(styleOf(), { still: { ...still, isLoading: true } })).toContain(WORDS.en.loading);
  });

  it("[W9] marks a simulated page that stands still as well", () => {
    const stream = { ...STREAM, simulated: true };
    const still = { atUs: 1_763_712_000_000_000, sinceMs: 0, isLoading: false };
    const marks = painted(styleOf({ stream }), { still })
      .split("\n")
      .filter((word) => word === WORDS.en.simulated);
    expect(marks.length).toBeGreaterThan(1);
  });

  it("[W19] names nothing of a patient that is not in sync", () => {
    const text = painted(styleOf(), { sync: "not_in_sync" });
    expect(text).toContain(WORDS.en.notInSync);
    expect(text.split("\n")).not.toContain("V1");
  });

  it("tells status the same words", () => {
    expect(scaleText(styleOf())).toBe("25 mm/s equivalent  ·  10 mm/mV  ·  not to scale");
    expect(scaleText(styleOf({}, { gainMmMv: 5 }, { calibration: SCALED }))).toBe("25 mm/s  ·  5 mm/mV");
    expect(filterText(styleOf({ filter: "st" }))).toBe("filter unknown  ·  view ST 0.05–40 Hz");
  });
});
