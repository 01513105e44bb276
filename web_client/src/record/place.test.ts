/** Places survive the way through the shared view, and whatever comes from outside is read as something safe. */
import { describe, expect, it } from "vitest";
import {
  beginning,
  boundedZoom,
  entryOf,
  listPages,
  MAX_PERCENT,
  olderList,
  readPlace,
  WHOLE,
  writePlace,
} from "./place";

describe("place", () => {
  it("is written and read again", () => {
    for (let number = 0; number < 2_000; number += 1) {
      const place = {
        id: `doc-${number}.a`,
        part: 1 + ((number * 7919) % 9999),
        zoom: boundedZoom({ percent: 100 + ((number * 31) % 701), x: (number * 17) % 101, y: (number * 29) % 101 }),
        window: ["", "lung", "bone"][number % 3] ?? "",
      };
      const item = writePlace(place);
      expect(readPlace(item)).toEqual(place);
      expect(entryOf(item)).toBe(place.id);
      // The shared view holds 160 letters, and an id up to 64 of them.
      expect(item.length - place.id.length).toBeLessThan(96);
    }
  });

  it("of the beginning is the id alone", () => {
    expect(writePlace(beginning("doc-1"))).toBe("doc-1");
    expect(readPlace("doc-1")).toEqual(beginning("doc-1"));
    expect(readPlace("")).toEqual(beginning(""));
  });

  it("reads anything else as the beginning", () => {
    for (const rest of ["p=0", "p=-1", "p=99999", "p=x", "z=1", "z=999,50,50,1", "w=<b>", "constructor=1", "=", ";;"]) {
      const place = readPlace(`doc-1;${rest}`);
      expect({ ...place, zoom: WHOLE }).toEqual(beginning("doc-1"));
    }
    expect(readPlace("doc-1;z=999,50,50").zoom.percent).toBe(MAX_PERCENT);
    expect(readPlace("doc-1;z=200,500,50").zoom).toEqual({ percent: 200, x: 100, y: 50 });
    expect(boundedZoom({ percent: Number.NaN, x: 0, y: 0 })).toEqual(WHOLE);
  });

  it("leaves a result alone that is named by a text", () => {
    expect(entryOf("尿糖;定性")).toBe("尿糖;定性");
    expect(entryOf("2823-3")).toBe("2823-3");
  });

  it("says how much of a list everyone shows", () => {
    const view = { page: "documents", item: olderList(1) };
    expect(listPages(view, "documents")).toBe(2);
    expect(listPages(view, "reports")).toBe(1);
    expect(listPages({ page: "documents", item: "doc-1;p=7" }, "documents")).toBe(1);
    expect(entryOf(view.item)).toBe("");
  });
});
