/**
 * The desk's arrangements: three views, three bars to drag, four presets.
 *
 * Record and pictures stand side by side over the ECG. Sizes are percentages; dragging a bar goes on from the preset.
 * Pure; `Desk.tsx` hands the numbers to the panels.
 */

export const LAYOUTS = ["balanced", "record", "video", "ecg"] as const;

export type LayoutName = (typeof LAYOUTS)[number];

export interface LayoutSizes {
  readonly columns: { readonly video: number; readonly record: number };
  readonly rows: { readonly top: number; readonly ecg: number };
}

export const SIZES: Record<LayoutName, LayoutSizes> = {
  balanced: { columns: { video: 44, record: 56 }, rows: { top: 58, ecg: 42 } },
  record: { columns: { video: 26, record: 74 }, rows: { top: 74, ecg: 26 } },
  video: { columns: { video: 68, record: 32 }, rows: { top: 72, ecg: 28 } },
  ecg: { columns: { video: 36, record: 64 }, rows: { top: 34, ecg: 66 } },
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
