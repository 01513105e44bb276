/** Colours of the ECG paper; light and dark for desks, "wall" for reading across a room. */

export type EcgTheme = "light" | "dark" | "wall";

export interface Palette {
  readonly paper: string;
  readonly gridFine: string;
  readonly gridBold: string;
  readonly trace: string;
  readonly saturated: string;
  /** A trace whose view filter has not settled after a gap. */
  readonly settling: string;
  /** Samples at the end of the range. */
  readonly clip: string;
  /** Holes that may still be filled. */
  readonly recovering: string;
  readonly pace: string;
  readonly session: string;
  readonly hatch: string;
  readonly band: string;
  readonly text: string;
  readonly soft: string;
  readonly label: string;
  readonly labelBack: string;
  readonly wash: string;
  readonly cross: string;
  readonly watermark: string;
  readonly state: Readonly<Record<"LIVE" | "DELAYED" | "STALE" | "LOST", readonly [back: string, ink: string]>>;
  readonly simulated: readonly [back: string, ink: string];
  /** A page that stands still. */
  readonly still: readonly [back: string, ink: string];
}

const STATES = {
  LIVE: ["#1a6b3b", "#ffffff"],
  DELAYED: ["#f2b134", "#201400"],
  STALE: ["#b0241c", "#ffffff"],
  LOST: ["#b0241c", "#ffffff"],
} as const;

const SIMULATED = ["#ffd60a", "#1a1400"] as const;
const STILL = ["#1d4f91", "#ffffff"] as const;

const LIGHT: Palette = {
  paper: "#fffaf8",
  gridFine: "#f7dcd7",
  gridBold: "#e9aca3",
  trace: "#0b1a24",
  saturated: "#c2410c",
  settling: "#64748b",
  clip: "rgb(194 65 12 / 42%)",
  recovering: "rgb(92 104 112 / 14%)",
  pace: "#1d4ed8",
  session: "#475569",
  hatch: "rgb(84 62 0 / 38%)",
  band: "#ffffff",
  text: "#14262e",
  soft: "#4a5e68",
  label: "#0b1a24",
  labelBack: "rgb(255 250 248 / 50%)",
  wash: "rgb(238 240 241 / 74%)",
  cross: "#b0241c",
  watermark: "rgb(120 80 0 / 13%)",
  state: STATES,
  simulated: SIMULATED,
  still: STILL,
};

const DARK: Palette = {
  paper: "#0a1210",
  gridFine: "#12231f",
  gridBold: "#21453b",
  trace: "#7dffb0",
  saturated: "#ff9d5c",
  settling: "#8fb3a2",
  clip: "rgb(255 157 92 / 42%)",
  recovering: "rgb(190 205 212 / 16%)",
  pace: "#8ab4ff",
  session: "#9fb3ad",
  hatch: "rgb(255 214 120 / 34%)",
  band: "#0e1518",
  text: "#e6eef1",
  soft: "#a7b8c0",
  label: "#f0f7f4",
  labelBack: "rgb(10 18 16 / 50%)",
  wash: "rgb(30 36 38 / 78%)",
  cross: "#ff6b60",
  watermark: "rgb(255 214 10 / 14%)",
  state: { ...STATES, LIVE: ["#1f7d47", "#ffffff"] },
  simulated: SIMULATED,
  still: STILL,
};

const WALL: Palette = {
  ...DARK,
  paper: "#04090a",
  gridFine: "#10211d",
  gridBold: "#2b5a4e",
  band: "#05090b",
  text: "#f5f9fa",
  soft: "#c6d2d8",
};

export const PALETTES: Readonly<Record<EcgTheme, Palette>> = { light: LIGHT, dark: DARK, wall: WALL };
