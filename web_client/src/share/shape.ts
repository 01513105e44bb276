/**
 * A page of the record as a sheet: how it is laid out, and whether it is laid out the same here. [SH2]
 *
 * A page flows anew on every screen, so a mark says how wide the page was and what was on it. In sheet mode the page is
 * laid out at that width and scaled as a whole; only when its words and its proportions are then those of the
 * mark may the mark be painted over it.
 */
import { currentLanguage } from "../i18n";
import type { PageShape } from "../protocol";

/** Units across a page; the same measure counts downwards. */
export const UNITS = 10_000;

/** Two pages of the same words whose proportions differ by less have the same line breaks. */
const SAME_PROPORTIONS = 0.01;

export const SHEET_FONT_PX = 16;

/** 64 bits of a text in hexadecimal: two runs of a 32-bit mix (Murmur's constants); tells pages apart, keeps no secret. */
export function contentKey(text: string): string {
  const words = text.replace(/\s+/g, " ").trim();
  return mixed(words, 0x9747b28c) + mixed(words, 0x3c6ef372);
}

function mixed(text: string, seed: number): string {
  let hash = seed;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x5bd1e995);
    hash ^= hash >>> 15;
  }
  return (hash >>> 0).toString(16).padStart(8, "0");
}

/** What is written on the page, and which editions of what it shows, without what lies over it. */
export function wordsOf(page: HTMLElement): string {
  const words = [...page.children]
    .filter((child) => !(child instanceof HTMLElement && child.dataset.overPage !== undefined))
    .map((child) => child.textContent ?? "");
  // A scan that was replaced has the same words around it.
  const editions = [...page.querySelectorAll<HTMLElement>("[data-edition]")].map((one) => one.dataset.edition ?? "");
  return [...words, ...editions].join(" ");
}

/** The page's shape as it stands, `width` wide before scaling; `null` while it has none (nothing loaded or painted). */
export function shapeOf(page: HTMLElement, width = Math.round(page.offsetWidth)): PageShape | null {
  const box = page.getBoundingClientRect();
  if (box.width === 0 || width < 100 || page.querySelector("[data-testid=record-loading]") !== null) return null;
  return {
    content: contentKey(wordsOf(page)),
    width,
    height: Math.max(1, Math.round((box.height / box.width) * width)),
    language: currentLanguage(),
  };
}

/** Whether what was drawn on `made` may be painted over a page that stands like `here`. */
export function fits(made: PageShape, here: PageShape | null): boolean {
  if (here === null || made.content !== here.content) return false;
  const [then, now] = [made.height / made.width, here.height / here.width];
  return Math.abs(now - then) <= SAME_PROPORTIONS * then;
}

/** A place of the window in units of the page, within it. */
export function placeOn(page: DOMRect, clientX: number, clientY: number): [number, number] {
  const unit = UNITS / (page.width || 1);
  const within = (value: number, most: number): number => Math.round(Math.min(most, Math.max(0, value)));
  return [within((clientX - page.left) * unit, UNITS), within((clientY - page.top) * unit, page.height * unit)];
}
