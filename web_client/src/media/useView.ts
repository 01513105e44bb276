/** Tell the relay how large a tile shows its source, for as long as it can be seen. */
import { type RefObject, useEffect } from "react";
import type { View, Views } from "./views";

/** Scrolled past is not scrolled away. */
const AWAY_MS = 1_000;
const MAX_PIXELS = 16_384;

export function useView(
  element: RefObject<HTMLElement | null>,
  views: Views | undefined,
  key: string | undefined,
  rank: View["rank"],
): void {
  useEffect(() => {
    const tile = element.current;
    if (tile === null || views === undefined || key === undefined) return;
    let isSeen = true;
    let away: ReturnType<typeof setTimeout> | undefined;
    const say = (): void => {
      const { width, height } = tile.getBoundingClientRect();
      if (isSeen && width >= 1 && height >= 1) views.show(key, { width: pixels(width), height: pixels(height), rank });
      else views.hide(key);
    };
    const sizes = new ResizeObserver(say);
    const sight = new IntersectionObserver((entries) => {
      const isIn = entries.at(-1)?.isIntersecting === true;
      clearTimeout(away);
      const settle = (): void => {
        isSeen = isIn;
        say();
      };
      if (isIn) settle();
      else away = setTimeout(settle, AWAY_MS);
    });
    say();
    sizes.observe(tile);
    sight.observe(tile);
    return () => {
      clearTimeout(away);
      sizes.disconnect();
      sight.disconnect();
      views.hide(key);
    };
  }, [element, views, key, rank]);
}

const pixels = (css: number): number => Math.min(MAX_PIXELS, Math.round(css * window.devicePixelRatio));
