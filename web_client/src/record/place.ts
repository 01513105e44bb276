/**
 * Where in an entry one is, written into the shared view's `item`: page of a document, part of a picture, grey window.
 *
 *     doc-7;p=3;z=200,50,50;w=lung
 *
 * It travels with the entry's id, so that followers turn with the lead and a pointer is drawn only over the same page
 * of the same picture. What cannot be read is read as the beginning: a hostile or newer view shows less, never breaks.
 */

/** Zoom in percent around a point of the picture, in percent of its width and height. */
export interface Zoom {
  readonly percent: number;
  readonly x: number;
  readonly y: number;
}

export interface Place {
  readonly id: string;
  /** Page of a document or picture of a series, from 1. */
  readonly part: number;
  readonly zoom: Zoom;
  /** Named grey window; empty: as the picture says. */
  readonly window: string;
}

export const WHOLE: Zoom = { percent: 100, x: 50, y: 50 };
export const MAX_PERCENT = 800;
export const MAX_PART = 9999;
const ID = /^[A-Za-z0-9\-.]{0,64}$/;

export const beginning = (id: string): Place => ({ id, part: 1, zoom: WHOLE, window: "" });

/** The place that an item names. */
export function readPlace(item: string): Place {
  const [id = "", ...rest] = item.split(";");
  let place = beginning(id);
  for (const field of rest) {
    const [, name, value = ""] = /^([pzw])=([A-Za-z0-9,]{1,24})$/.exec(field) ?? [];
    if (name === "p" && /^\d{1,4}$/.test(value)) place = { ...place, part: Math.max(1, Number(value)) };
    if (name === "z") place = { ...place, zoom: readZoom(value) };
    if (name === "w" && /^[a-z]+$/.test(value)) place = { ...place, window: value };
  }
  return place;
}

function readZoom(text: string): Zoom {
  const match = /^(\d{3}),(\d{1,3}),(\d{1,3})$/.exec(text);
  return match === null ? WHOLE : boundedZoom({ percent: Number(match[1]), x: Number(match[2]), y: Number(match[3]) });
}

/** Within the bounds, in whole percent; the whole picture has no centre to choose. */
export function boundedZoom({ percent, x, y }: Zoom): Zoom {
  const whole = (value: number, low: number, high: number): number =>
    Math.min(high, Math.max(low, Math.round(Number.isFinite(value) ? value : low)));
  const bounded = whole(percent, 100, MAX_PERCENT);
  return bounded === 100 ? WHOLE : { percent: bounded, x: whole(x, 0, 100), y: whole(y, 0, 100) };
}

/** The item that names a place; the beginning is the id alone. */
export function writePlace({ id, part, zoom, window }: Place): string {
  const page = Math.min(MAX_PART, Math.max(1, Math.round(part)));
  const { percent, x, y } = boundedZoom(zoom);
  const fields = [
    page > 1 && `p=${page}`,
    percent > 100 && `z=${percent},${x},${y}`,
    /^[a-z]{1,24}$/.test(window) && `w=${window}`,
  ];
  return [id, ...fields.filter((field) => field !== false)].join(";");
}

/** Which entry an item opens: what is loaded stays while one turns its pages. */
export const entryOf = (item: string): string => {
  const [id = ""] = item.split(";");
  // A result may be named by a text that holds anything; only ids have places in them.
  return ID.test(id) ? id : item;
};

/** How many pages of a page's own list the shared view shows: older entries appear for everyone. */
export function listPages(view: { page: string; item: string }, page: string): number {
  if (view.page !== page) return 1;
  const { id, part } = readPlace(view.item);
  return id === "" ? part : 1;
}

export const olderList = (pages: number): string => writePlace({ ...beginning(""), part: pages + 1 });
