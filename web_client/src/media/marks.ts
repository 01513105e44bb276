/**
 * Moments worth measuring, as `performance.mark`s that tests and the report read; nothing leaves the page.
 *
 * `consilium:join-click`, `consilium:joined`, and `consilium:first-frame` for the first picture of anybody else.
 */

const taken = new Set<string>();

/** Take a mark once per page. */
export function markOnce(name: "join-click" | "joined" | "first-frame"): void {
  if (taken.has(name)) return;
  taken.add(name);
  performance.mark(`consilium:${name}`);
}

/** Begin measuring anew: the person pressed Join (again). */
export function markJoinClick(): void {
  taken.clear();
  for (const name of ["join-click", "joined", "first-frame"]) performance.clearMarks(`consilium:${name}`);
  markOnce("join-click");
}

/** Milliseconds from pressing Join to the first picture; `null` until both happened. */
export function clickToFirstFrameMs(): number | null {
  const at = (name: string): number | undefined =>
    performance.getEntriesByName(`consilium:${name}`, "mark")[0]?.startTime;
  const [click, frame] = [at("join-click"), at("first-frame")];
  return click === undefined || frame === undefined ? null : frame - click;
}
