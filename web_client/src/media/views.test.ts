import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SETTLE_MS, TAB_HIDDEN_MS, type View, Views } from "./views";

const large: View = { width: 1280, height: 720, rank: "main" };
const small: View = { width: 320, height: 180, rank: "tile" };

class Page {
  readonly told: [string, number, string][] = [];
  readonly consumers = new Map<string, string>();
  isHidden = false;
  refuses = false;
  changed = (): void => undefined;
  readonly views = new Views(
    () => this.consumers,
    async (consumer, { width, rank }) => {
      this.told.push([consumer, width, rank]);
      if (this.refuses) throw new Error("too busy");
    },
    {
      isHidden: () => this.isHidden,
      watch: (changed) => {
        this.changed = changed;
        return () => undefined;
      },
    },
  );

  hideTab(isHidden: boolean): void {
    this.isHidden = isHidden;
    this.changed();
  }
}

let page: Page;
beforeEach(() => {
  vi.useFakeTimers();
  page = new Page();
  page.consumers.set("room/camera/", "k1");
  page.views.online();
});
afterEach(() => {
  page.views.close();
  vi.useRealTimers();
});

describe("telling the relay how large a picture is shown", () => {
  it("says it once, when it has settled", async () => {
    for (let width = 300; width <= 1280; width += 20) {
      page.views.show("room/camera/", { ...large, width });
      await vi.advanceTimersByTimeAsync(16);
    }
    expect(page.told).toEqual([]);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told).toEqual([["k1", 1280, "main"]]);
    page.views.show("room/camera/", { ...large, width: 1270 });
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told).toHaveLength(1);
  });

  it("says 0 by 0 for what no tile shows", async () => {
    page.views.show("room/camera/", large);
    page.consumers.set("sixth/camera/", "k6");
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told).toEqual([
      ["k1", 1280, "main"],
      ["k6", 0, "tile"],
    ]);
    page.views.hide("room/camera/");
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told.at(-1)).toEqual(["k1", 0, "tile"]);
  });

  it("tells a tile that moved to another place only its new size", async () => {
    page.views.show("room/camera/", large);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    page.views.hide("room/camera/");
    page.views.show("room/camera/", small);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told.slice(1)).toEqual([["k1", 320, "tile"]]);
  });

  it("tells a new Consumer of the same source, and everybody after the socket was away", async () => {
    page.views.show("room/camera/", large);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    page.consumers.set("room/camera/", "k2");
    page.views.soon();
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told.at(-1)).toEqual(["k2", 1280, "main"]);

    page.views.offline();
    page.views.show("room/camera/", small);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told).toHaveLength(2);
    page.views.online();
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    expect(page.told.at(-1)).toEqual(["k2", 320, "tile"]);
  });

  it("gives up every picture of a hidden tab after a while, and asks at once when it is looked at", async () => {
    page.views.show("room/camera/", large);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    page.hideTab(true);
    await vi.advanceTimersByTimeAsync(TAB_HIDDEN_MS - 1);
    expect(page.told).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(2);
    expect(page.told.at(-1)).toEqual(["k1", 0, "tile"]);
    page.hideTab(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(page.told.at(-1)).toEqual(["k1", 1280, "main"]);
  });

  it("a glance at another tab costs nothing", async () => {
    page.views.show("room/camera/", large);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    page.hideTab(true);
    await vi.advanceTimersByTimeAsync(TAB_HIDDEN_MS / 2);
    page.hideTab(false);
    await vi.advanceTimersByTimeAsync(2 * TAB_HIDDEN_MS);
    expect(page.told).toHaveLength(1);
  });

  it("says later what was refused, with what is true then", async () => {
    page.refuses = true;
    page.views.show("room/camera/", large);
    await vi.advanceTimersByTimeAsync(SETTLE_MS);
    page.refuses = false;
    page.views.show("room/camera/", small);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(page.told).toEqual([
      ["k1", 1280, "main"],
      ["k1", 320, "tile"],
    ]);
  });
});
