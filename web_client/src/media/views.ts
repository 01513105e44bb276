/**
 * Telling the relay how large each picture is shown.
 *
 * Tiles say what they look like as it changes; the relay is told when that has settled, once per Consumer and size. A
 * picture without a tile (a sixth person on a wall, a second shared screen) is shown nowhere and said to be 0 by 0, and
 * so are all of them while the tab has been hidden for a while. A new Consumer, after a rebuild or a reset, has never
 * been told anything and is told again; so is everybody after the socket was away.
 */

export interface View {
  /** Device pixels; 0 by 0 is out of sight. */
  readonly width: number;
  readonly height: number;
  readonly rank: "main" | "tile";
}

export const OUT_OF_SIGHT: View = { width: 0, height: 0, rank: "tile" };

/** A panel being dragged changes its size sixty times a second. */
export const SETTLE_MS = 250;
/** A glance at another tab must not cost everybody a key frame. */
export const TAB_HIDDEN_MS = 5_000;
const RETRY_MS = 2_000;
/** Less than this does not change which layer fits. */
const SAME = 0.08;

/** The part of a page that can be hidden. */
export interface Tab {
  readonly isHidden: () => boolean;
  readonly watch: (changed: () => void) => () => void;
}

const browserTab: Tab = {
  isHidden: () => globalThis.document?.visibilityState === "hidden",
  watch: (changed) => {
    globalThis.document?.addEventListener("visibilitychange", changed);
    return () => globalThis.document?.removeEventListener("visibilitychange", changed);
  },
};

export class Views {
  private readonly shown = new Map<string, View>();
  private readonly told = new Map<string, View>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private dueAtMs = Number.POSITIVE_INFINITY;
  private hiding: ReturnType<typeof setTimeout> | undefined;
  private isTabHidden = false;
  private isOnline = false;
  private readonly unwatch: () => void;

  /**
   * @param consumers video Consumers by the key of what they show
   * @param tell sends one `view_consumer`; rejects when it was not carried out
   */
  constructor(
    private readonly consumers: () => ReadonlyMap<string, string>,
    private readonly tell: (consumer: string, view: View) => Promise<unknown>,
    private readonly tab: Tab = browserTab,
  ) {
    this.unwatch = tab.watch(() => this.tabChanged());
    this.tabChanged();
  }

  /** A tile shows this source now, in this size. */
  show(key: string, view: View): void {
    this.shown.set(key, view);
    this.soon();
  }

  /** No tile shows it any more. */
  hide(key: string): void {
    if (this.shown.delete(key)) this.soon();
  }

  /** What the relay should know of this source. */
  of(key: string): View {
    return this.isTabHidden ? OUT_OF_SIGHT : (this.shown.get(key) ?? OUT_OF_SIGHT);
  }

  /** The socket is (again) there: whatever was said before may have been lost. */
  online(): void {
    this.isOnline = true;
    this.told.clear();
    this.soon();
  }

  offline(): void {
    this.isOnline = false;
  }

  /** Consumers came or went. */
  soon(delayMs = SETTLE_MS): void {
    const dueAtMs = performance.now() + delayMs;
    // Put off while tiles still change, but never by a later retry.
    if (delayMs > SETTLE_MS && this.dueAtMs < dueAtMs) return;
    clearTimeout(this.timer);
    this.dueAtMs = dueAtMs;
    this.timer = setTimeout(() => this.flush(), delayMs);
  }

  /** A new Consumer is about to be resumed: when its tile is there already, its first picture has the right size. */
  introduce(key: string, consumer: string): void {
    if (this.isOnline && this.of(key) !== OUT_OF_SIGHT) this.say(consumer, this.of(key));
    else this.soon();
  }

  close(): void {
    clearTimeout(this.timer);
    clearTimeout(this.hiding);
    this.unwatch();
    this.isOnline = false;
  }

  private flush(): void {
    this.dueAtMs = Number.POSITIVE_INFINITY;
    if (!this.isOnline) return;
    const consumers = this.consumers();
    const living = new Set(consumers.values());
    for (const consumer of [...this.told.keys()]) if (!living.has(consumer)) this.told.delete(consumer);
    for (const [key, consumer] of consumers) {
      const view = this.of(key);
      const before = this.told.get(consumer);
      if (before === undefined || !isSame(before, view)) this.say(consumer, view);
    }
  }

  private say(consumer: string, view: View): void {
    this.told.set(consumer, view);
    this.tell(consumer, view).catch(() => {
      // Refused as too much, or unanswered: later, with whatever is true then.
      if (this.told.get(consumer) === view) this.told.delete(consumer);
      this.soon(RETRY_MS);
    });
  }

  private tabChanged(): void {
    clearTimeout(this.hiding);
    if (this.tab.isHidden()) {
      this.hiding = setTimeout(() => this.setTabHidden(true), TAB_HIDDEN_MS);
    } else this.setTabHidden(false);
  }

  private setTabHidden(isHidden: boolean): void {
    if (this.isTabHidden === isHidden) return;
    this.isTabHidden = isHidden;
    this.soon(0);
  }
}

function isSame(a: View, b: View): boolean {
  if (a.rank !== b.rank || (a.width === 0) !== (b.width === 0)) return false;
  return near(a.width, b.width) && near(a.height, b.height);
}

const near = (a: number, b: number): boolean => Math.abs(a - b) <= SAME * Math.max(a, b);
