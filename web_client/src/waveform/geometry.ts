/**
 * The page: which lane is drawn where, and how many device pixels a millimetre takes.
 *
 * One sweep crosses the whole page, as on paper: in "3x4+1" the four columns show their
 * leads one after the other over the rhythm strip, so everything in one vertical line
 * happened at the same time. All lengths are derived from px per mm and never summed up
 * from rounded steps. Everything here is in device pixels unless named `_mm`. Pure.
 */

import type { Calibration } from "./calibration";
import { type Lane, type LaneRow, laneRows } from "./lanes";
import type { EcgTheme } from "./palette";
import type { EcgGain, EcgLayout, EcgOrder, EcgSpeed } from "./settings";

export type { EcgGain, EcgLayout, EcgSpeed } from "./settings";

export interface Surface {
  /** Backing store, device pixels. */
  readonly width: number;
  readonly height: number;
  readonly dpr: number;
  readonly calibration: Calibration;
  readonly theme: EcgTheme;
}

export interface PageRequest {
  readonly surface: Surface;
  readonly leads: readonly string[];
  readonly sampleRateMhz: number;
  readonly layout: EcgLayout;
  readonly order?: EcgOrder;
  readonly rhythm?: readonly string[];
  readonly speedMmS: EcgSpeed;
  readonly gainMmMv: EcgGain;
  /** Enlargement to use instead of the far view's own choice: two pages side by side must agree. */
  readonly zoom?: number;
  /** Length of a recording: a page is no longer than that. */
  readonly maxSamples?: number;
}

export interface Segment extends Lane {
  /** Columns of the sweep, in samples: from inclusive, to exclusive. */
  readonly from: number;
  readonly to: number;
}

export interface Row {
  readonly baseline: number;
  readonly top: number;
  readonly bottom: number;
  readonly segments: readonly Segment[];
}

export interface Page {
  readonly layout: Exclude<EcgLayout, "auto">;
  readonly width: number;
  readonly height: number;
  /** Text unit: one CSS pixel, or one design pixel of a wall. */
  readonly unit: number;
  readonly narrow: boolean;
  /** Read across a room. */
  readonly isWall: boolean;
  readonly bandTop: number;
  readonly bandBottom: number;
  /** Enlargement of the far view; 1 = true scale if calibrated. */
  readonly zoom: number;
  readonly pxPerMmX: number;
  readonly pxPerMmY: number;
  readonly pxPerMv: number;
  readonly lineWidth: number;
  /** Left edge of the sweep; the calibration mark stands before it. */
  readonly sweepX: number;
  /** Samples in one sweep, and their distance. */
  readonly sweepSamples: number;
  readonly pxPerSample: number;
  readonly rows: readonly Row[];
}

const NARROW_BELOW_PX = 720;
/** A phone's page this low holds two leads well, and no more. */
const LOW_BELOW_PX = 420;
const ZOOMS = [4, 3, 2.5, 2, 1.5] as const;
const FAR_SECONDS = 9.5;
const FAR_ROW_MM = 20;
const CALIBRATION_S = 0.2;
/** Flat paper on both sides of the calibration mark. */
const MARK_MARGIN_MM = 2;

export function computePage(request: PageRequest): Page {
  const { surface, sampleRateMhz, speedMmS, gainMmMv } = request;
  const unit = textUnit(surface);
  const narrow = surface.width / surface.dpr < NARROW_BELOW_PX;
  const bandTop = Math.round((surface.theme === "wall" ? 84 : narrow ? 84 : 44) * unit);
  const bandBottom = Math.round((surface.theme === "wall" ? 54 : narrow ? 46 : 30) * unit);
  const layout = request.layout === "auto" ? autoLayout(surface) : request.layout;
  const { leads, order = "standard", rhythm = [] } = request;
  const lanes = laneRows({ leads, layout, order, rhythm });
  const area = surface.height - bandTop - bandBottom;
  const zoom = request.zoom ?? farView(request, area, lanes.length);
  const pxPerMmX = surface.dpr * surface.calibration.pxPerMmX * zoom;
  const pxPerMmY = surface.dpr * surface.calibration.pxPerMmY * zoom;
  const sweepX = Math.round((CALIBRATION_S * speedMmS + 2 * MARK_MARGIN_MM) * pxPerMmX);
  const pxPerSample = (speedMmS * pxPerMmX * 1000) / sampleRateMhz;
  const fitting = Math.max(1, Math.floor((surface.width - sweepX) / pxPerSample));
  const sweepSamples = Math.min(fitting, request.maxSamples ?? fitting);
  return {
    layout,
    width: surface.width,
    height: surface.height,
    unit,
    narrow,
    isWall: surface.theme === "wall",
    bandTop,
    bandBottom,
    zoom,
    pxPerMmX,
    pxPerMmY,
    pxPerMv: gainMmMv * pxPerMmY,
    lineWidth: Math.max(1, (surface.theme === "wall" ? 2.4 : 1.4) * unit),
    sweepX,
    sweepSamples,
    pxPerSample,
    rows: placeRows(lanes, sweepSamples, {
      top: bandTop,
      height: area,
      pxPerMmY,
      pxPerMv: gainMmMv * pxPerMmY,
    }),
  };
}

/** Where a position of the stream's axis is in the sweep. */
export function columnOf(page: Page, position: number): number {
  const column = position % page.sweepSamples;
  return column < 0 ? column + page.sweepSamples : column;
}

export function xOfColumn(page: Page, column: number): number {
  return page.sweepX + column * page.pxPerSample;
}

function textUnit({ theme, width, height, dpr }: Surface): number {
  return theme === "wall" ? Math.max(dpr * 0.55, Math.min(width / 1920, height / 1080)) : dpr;
}

/** A wall is read from afar: enlarge as long as ten seconds and tall enough rows still fit. */
function farView(request: PageRequest, area: number, rows: number): number {
  const { surface, speedMmS } = request;
  if (surface.theme !== "wall") return 1;
  const widthMm = surface.width / surface.dpr / surface.calibration.pxPerMmX;
  const rowMm = area / rows / surface.dpr / surface.calibration.pxPerMmY;
  const sideMm = CALIBRATION_S * speedMmS + 2 * MARK_MARGIN_MM;
  const fits = (zoom: number): boolean => (widthMm / zoom - sideMm) / 25 >= FAR_SECONDS && rowMm / zoom >= FAR_ROW_MM;
  return ZOOMS.find(fits) ?? 1;
}

function autoLayout({ width, height, dpr }: Surface): Exclude<EcgLayout, "auto"> {
  if (width / dpr >= NARROW_BELOW_PX) return "3x4+1";
  return height / dpr < LOW_BELOW_PX ? "rhythm" : "6x2";
}

interface Area {
  readonly top: number;
  readonly height: number;
  readonly pxPerMmY: number;
  readonly pxPerMv: number;
}

function placeRows(lanes: readonly LaneRow[], samples: number, area: Area): Row[] {
  const pitch = area.height / lanes.length;
  // Rows as even as the paper allows: on bold lines where they are far apart, else on millimetre lines.
  const snapMm = pitch / area.pxPerMmY >= 20 ? 5 : 1;
  // Room above the first baseline for its calibration mark.
  const origin = area.top + Math.min(0.72 * pitch, Math.max(pitch / 2, area.pxPerMv + area.pxPerMmY));
  return lanes.map((row, i) => {
    const offset = Math.round((i * pitch) / area.pxPerMmY / snapMm) * snapMm * area.pxPerMmY;
    return {
      baseline: origin + offset,
      top: area.top + i * pitch,
      bottom: area.top + (i + 1) * pitch,
      segments: row.lanes.map((lane, c) => ({
        ...lane,
        from: Math.floor((samples * c) / row.columns),
        to: Math.floor((samples * (c + 1)) / row.columns),
      })),
    };
  });
}
