/**
 * Twelve leads at 500 Hz, ten seconds, drawn by us or by uPlot: `?engine=ours|uplot|idle`.
 *
 * `await bench.measure(seconds)` gives frames per second of this page and JavaScript per
 * frame; ours draws in a worker, whose own figures come with its status. The CPU of the
 * whole browser is for whoever runs this to measure. Build with CONSILIUM_ECG_BENCH=1:
 * the test hook would count too.
 */

import { createRoot } from "react-dom/client";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { EcgView } from "../EcgView";
import type { EcgStatus } from "../settings";
import { madeUpMv, TWELVE_LEADS } from "../testFrames";
import { MadeChannel, nowUs, RATE_HZ, STREAM } from "./made";

export interface Figures {
  readonly engine: string;
  /** Animation frames of the page's main thread. */
  readonly pageFps: number;
  /** Pictures made a second, wherever they are made. */
  readonly fps: number;
  /** JavaScript of the engine per picture, on whichever thread it runs. */
  readonly jsMs: number;
  /** The engine's JavaScript on the main thread, share of the time. */
  readonly mainShare: number;
}

const WINDOW_S = 10;
const engine = new URLSearchParams(location.search).get("engine") ?? "ours";
const root = document.getElementById("root") as HTMLElement;
let paints = 0;
let spentMs = 0;
let status: EcgStatus | null = null;

/** What uPlot's users do for a live chart: keep a window of points and set it anew for each frame. */
function drawWithUplot(): void {
  const size = WINDOW_S * RATE_HZ;
  const startS = nowUs() / 1e6 - WINDOW_S;
  const xs = Array.from({ length: size }, (_, i) => i / RATE_HZ);
  const ys = TWELVE_LEADS.map((lead, row) => xs.map((x) => madeUpMv(lead, startS + x) - 2 * row));
  const options: uPlot.Options = {
    width: window.innerWidth,
    height: window.innerHeight,
    pxAlign: 0,
    cursor: { show: false },
    legend: { show: false },
    scales: { x: { time: false }, y: { range: [-24, 2] } },
    series: [{}, ...TWELVE_LEADS.map((label) => ({ label, stroke: "#0b1a24", width: 1.4, points: { show: false } }))],
  };
  const chart = new uPlot(options, [xs, ...ys] as uPlot.AlignedData, root);
  let drawnTo = size;
  const draw = (): void => {
    const due = Math.floor((nowUs() / 1e6 - startS) * RATE_HZ);
    const before = performance.now();
    for (; drawnTo < due; drawnTo += 1) {
      xs.shift();
      xs.push(drawnTo / RATE_HZ);
      ys.forEach((values, row) => {
        values.shift();
        values.push(madeUpMv(TWELVE_LEADS[row] as string, startS + drawnTo / RATE_HZ) - 2 * row);
      });
    }
    chart.setData([xs, ...ys] as uPlot.AlignedData);
    // uPlot draws in a microtask: the frame's cost is known once that is over.
    queueMicrotask(() =>
      queueMicrotask(() => {
        spentMs += performance.now() - before;
        paints += 1;
      }),
    );
    requestAnimationFrame(draw);
  };
  requestAnimationFrame(draw);
}

function drawWithOurs(): void {
  const channel = new MadeChannel(STREAM.leads, WINDOW_S);
  createRoot(root).render(
    <EcgView
      stream={STREAM}
      channel={channel}
      contextVersion={1}
      theme="light"
      lang="en"
      layout="12x1"
      mode={new URLSearchParams(location.search).get("mode") === "scroll" ? "scroll" : "sweep"}
      filter={new URLSearchParams(location.search).get("filter") === "monitor" ? "monitor" : "off"}
      onState={(next) => {
        status = next;
      }}
    />,
  );
}

async function measure(seconds: number): Promise<Figures> {
  let frames = 0;
  let running = true;
  const count = (): void => {
    frames += 1;
    if (running) requestAnimationFrame(count);
  };
  requestAnimationFrame(count);
  [paints, spentMs] = [0, 0];
  const ours: EcgStatus[] = [];
  const collect = setInterval(() => {
    if (status !== null) ours.push(status);
  }, 250);
  const before = performance.now();
  await new Promise((done) => setTimeout(done, seconds * 1000));
  running = false;
  clearInterval(collect);
  const elapsedS = (performance.now() - before) / 1000;
  const pageFps = frames / elapsedS;
  const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  if (engine !== "ours") {
    const share = spentMs / 1000 / elapsedS;
    return { engine, pageFps, fps: paints / elapsedS, jsMs: spentMs / Math.max(1, paints), mainShare: share };
  }
  const fps = mean(ours.map(({ framesPerSecond }) => framesPerSecond));
  return { engine, pageFps, fps, jsMs: mean(ours.map(({ paintMs }) => paintMs)), mainShare: 0 };
}

if (engine === "uplot") drawWithUplot();
else if (engine === "ours") drawWithOurs();

declare global {
  interface Window {
    bench: { measure: typeof measure };
  }
}
window.bench = { measure };
