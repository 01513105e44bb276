import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { storeCalibration } from "./calibration";
import type { EcgChannel } from "./channel";
import type { ToEcg } from "./driver";
import type { EcgSize } from "./engine";
import { SETTINGS } from "./fakeCanvas";
import { mountEcg } from "./mount";

const posted = vi.hoisted<unknown[]>(() => []);
vi.mock("./driver", () => ({
  EcgDriver: class {
    handle(message: unknown): void {
      posted.push(message);
    }
  },
}));

const CHANNEL: EcgChannel = {
  open: false,
  onFrame: () => () => undefined,
  onControl: () => () => undefined,
  onOpenChange: () => () => undefined,
  sendControl: () => undefined,
};

let resize: () => void;

beforeEach(() => {
  posted.length = 0;
  vi.stubGlobal(
    "ResizeObserver",
    class {
      constructor(callback: (entries: unknown[]) => void) {
        resize = () => callback([]);
      }
      observe(): void {}
      disconnect(): void {}
    },
  );
  vi.stubGlobal("devicePixelRatio", 1);
});
afterEach(() => vi.unstubAllGlobals());

const newest = (): EcgSize => {
  const sizes = (posted as ToEcg[]).flatMap((message) => (message.type === "size" ? [message.size] : []));
  return sizes.at(-1) as EcgSize;
};

it("[W27] [W34] a calibration ends with the zoom it was made at", () => {
  const element = document.createElement("div");
  vi.spyOn(element, "getBoundingClientRect").mockReturnValue(new DOMRect(0, 0, 800, 400));
  storeCalibration(4, 4.1);
  const handle = mountEcg(element, {
    stream: {
      stream_id: 1,
      leads: ["I"],
      sample_rate_mhz: 500_000,
      lsb_nv: 1,
      device: "",
      filter: "",
      simulated: false,
      patient: "p",
    },
    channel: CHANNEL,
    context: { version: 1, first: 1 },
    settings: SETTINGS,
    onStatus: () => undefined,
  });
  resize();
  expect(newest().calibration).toMatchObject({ calibrated: true, pxPerMmX: 4 });

  vi.stubGlobal("devicePixelRatio", 2);
  resize();
  expect(newest()).toMatchObject({ dpr: 2, width: 1600 });
  expect(newest().calibration.calibrated).toBe(false);

  // Where the box is counted in CSS pixels, zooming a page of fixed size tells only the window.
  vi.stubGlobal("devicePixelRatio", 1);
  window.dispatchEvent(new Event("resize"));
  expect(newest()).toMatchObject({ dpr: 1, calibration: { calibrated: true } });
  const before = posted.length;
  handle.dispose();
  window.dispatchEvent(new Event("resize"));
  expect(posted.slice(before)).toEqual([{ type: "stop" }]);
});
