/**
 * The desk's arrangements: three views, three bars to drag, four presets.
 *
 * Record and pictures stand side by side over the ECG. Sizes are percentages; dragging a bar goes on from the preset.
 * Pure; `Desk.tsx` hands the numbers to the panels.
 */

export const LAYOUTS = ["balanced", "record", "video", "ecg"] as const;

export type LayoutName = (typeof LAYOUTS)[number];

export interface LayoutSizes {
  readonly columns: { readonly "panel-video": number; readonly "panel-record": number };
  readonly rows: { readonly "panel-top": number; readonly "panel-ecg": number };
}

export const SIZES: Record<LayoutName, LayoutSizes> = {
  balanced: { columns: { "panel-video": 44, "panel-record": 56 }, rows: { "panel-top": 58, "panel-ecg": 42 } },
  record: { columns: { "panel-video": 26, "panel-record": 74 }, rows: { "panel-top": 74, "panel-ecg": 26 } },
  video: { columns: { "panel-video": 68, "panel-record": 32 }, rows: { "panel-top": 72, "panel-ecg": 28 } },
  ecg: { columns: { "panel-video": 36, "panel-record": 64 }, rows: { "panel-top": 34, "panel-ecg": 66 } },
};

const STORAGE_KEY = "consilium.desk-layout";

export function nextLayout(current: LayoutName): LayoutName {
  return LAYOUTS[(LAYOUTS.indexOf(current) + 1) % LAYOUTS.length] ?? "balanced";
}

export function rememberedLayout(): LayoutName {
  try {
    const value = localStorage.getItem(STORAGE_KEY);
    return LAYOUTS.find((name) => name === value) ?? "balanced";
  } catch {
    return "balanced";
  }
}

export function rememberLayout(name: LayoutName): void {
  try {
    localStorage.setItem(STORAGE_KEY, name);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}
