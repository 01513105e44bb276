/**
 * Every look of the display with a made-up source, to be looked at:
 * `?scene=plain|wounds|still|prior|few|phone|calibrate&theme=&lang=&layout=&order=&mode=&filter=`.
 */

import { createRoot } from "react-dom/client";
import { AppProviders } from "../../theme/AppProviders";
import { CalibrationDialog } from "../CalibrationDialog";
import { EcgBeside } from "../EcgBeside";
import { type EcgLook, EcgView } from "../EcgView";
import type { MadeFrame } from "../testFrames";
import { BLOCK, type Change, MadeChannel, nowUs, STREAM } from "./made";

const query = new URLSearchParams(location.search);
const pick = (name: string, usual: string): string => query.get(name) ?? usual;
const scene = pick("scene", "plain");
const look = {
  theme: pick("theme", "light"),
  lang: pick("lang", "en"),
  layout: pick("layout", "auto"),
  order: pick("order", "standard"),
  filter: pick("filter", "off"),
  notch: Number(pick("notch", "0")),
  rhythm: query.get("rhythm")?.split(",") ?? [],
} as unknown as EcgLook;
const mode = pick("mode", "sweep") === "scroll" ? "scroll" : "sweep";
document.documentElement.dataset.mantineColorScheme = look.theme === "light" ? "light" : "dark";

/** One of everything that can be wrong, within ten seconds. */
const wounds: Change = (frame) => {
  const at = frame.seq % 100;
  if (at === 12 || at === 13) return null;
  const without = (lead: number, change: Partial<MadeFrame>): MadeFrame => ({
    ...frame,
    rows: frame.rows.filter((_, i) => i !== lead),
    leadMask: 0xfff & ~(1 << lead),
    ...change,
  });
  if (at >= 22 && at < 45) return without(9, { leadOffMask: 1 << 9 });
  if (at >= 48 && at < 60) return { ...frame, runs: [[7, 4, 0, BLOCK]] };
  if (at >= 62 && at < 75) return { ...frame, runs: [[10, 3, 0, BLOCK]], saturatedMask: 1 << 6 };
  if (at >= 78 && at < 84) return { ...frame, runs: [[8, 1, 5, BLOCK - 10]] };
  if (at >= 88 && at < 96) return { ...frame, runs: [[1, 5, 0, BLOCK]], pace: [20] };
  return frame;
};

function Scene(): React.JSX.Element {
  const few = scene === "few" || scene === "phone-few";
  const leads = few ? ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9"] : STREAM.leads;
  const stream = { ...STREAM, leads: [...leads], simulated: query.has("simulated") };
  const channel = new MadeChannel(leads, 12, scene === "wounds" ? wounds : undefined, query.has("simulated") ? 8 : 0);
  const props = { stream, channel, contextVersion: 1, mode } as const;
  if (scene === "still") return <EcgView {...props} {...look} still={{ atUs: nowUs() - 2_000_000 }} />;
  if (scene === "calibrate") return <CalibrationDialog lang={look.lang} onClose={() => undefined} />;
  if (scene === "prior") {
    const frames = channel.stored(Date.UTC(2026, 5, 3, 9, 5) * 1000, 10);
    return <EcgBeside look={look} current={props} prior={{ stream, frames, title: "Prior ECG" }} />;
  }
  return <EcgView {...props} {...look} />;
}

createRoot(document.getElementById("root") as HTMLElement).render(
  <AppProviders forceColorScheme={look.theme === "light" ? "light" : "dark"}>
    <Scene />
  </AppProviders>,
);
