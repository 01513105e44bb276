/**
 * A live ECG on calibrated paper.
 *
 * The component makes two canvases, hands them to a worker and from then on only carries
 * messages: frames and control answers in, requests out. It listens for the worker's
 * heartbeat; when that stops, the page itself covers the trace, so a frozen picture never
 * looks live (W14). `contextVersion` is what the page around it shows and `firstVersion`
 * under which its patient was opened; samples of any other opening are not drawn (W19, W24).
 *
 * `still` freezes it or scrolls back; `onStill` then says where each lane is, so that a layer
 * above can draw calipers and marks (W32); `ref` reads single real samples.
 */

import { type Ref, useEffect, useImperativeHandle, useRef, useState } from "react";
import type { WaveformStream } from "../protocol/messages";
import type { EcgChannel } from "./channel";
import { type DrawnSample, isRecording } from "./drawn";
import styles from "./EcgView.module.css";
import { type EcgHandle, type History, mountEcg, type Repair } from "./mount";
import type { EcgTheme } from "./palette";
import type {
  EcgFilter,
  EcgGain,
  EcgLayout,
  EcgMode,
  EcgNotch,
  EcgOrder,
  EcgSample,
  EcgSettings,
  EcgSpeed,
  EcgStatus,
  EcgTiming,
  StillAt,
  StillMap,
  VideoDelayMs,
} from "./settings";
import { type EcgLanguage, type EcgWords, WORDS } from "./words";

/** What may be chosen about the picture of any ECG, live or recorded. */
export interface EcgLook {
  readonly theme: EcgTheme;
  readonly lang: EcgLanguage;
  readonly layout?: EcgLayout;
  readonly order?: EcgOrder;
  /** Leads of the rhythm strips, at most three; default II, or what there is. */
  readonly rhythm?: readonly string[];
  readonly speed?: EcgSpeed;
  readonly gain?: EcgGain;
  /** View only, named on screen (W29). */
  readonly filter?: EcgFilter;
  readonly notch?: EcgNotch;
  /** Enlargement that two views agree on; absent = by size (far view of a wall). */
  readonly zoom?: number;
}

export interface EcgViewProps extends EcgLook {
  readonly stream: WaveformStream;
  /** The context version the page shows; null when no patient is open. */
  readonly contextVersion: number | null;
  /** The version under which that patient was opened: those from it on are the same opening's ([AN2]). */
  readonly firstVersion?: number | null;
  readonly channel: EcgChannel;
  readonly mode?: EcgMode;
  /** "video" holds the trace back until the picture beside it has come as far. */
  readonly timing?: EcgTiming;
  /** Capture to screen of that picture, of `VideoTime`; null or absent while not known. */
  readonly videoDelayMs?: VideoDelayMs;
  /** Print date and time: needed beside another ECG. */
  readonly dated?: boolean;
  /** Freeze with the right edge at this time; another time scrolls back; null or absent is live. */
  readonly still?: StillAt | null;
  /** Stored frames, for what the last minute does not hold. */
  readonly history?: History;
  /** Stored frames for holes of the live trace that the relay cannot fill any more. */
  readonly repair?: Repair;
  /** [W20] False while no device is bound: nothing live is shown, a page that stands still stays. */
  readonly bound?: boolean;
  readonly onStill?: (map: StillMap | null) => void;
  readonly onState?: (status: EcgStatus) => void;
  readonly ref?: Ref<EcgViewHandle>;
}

export interface EcgViewHandle {
  /** The real sample nearest to a time, raw and never filtered; null for a lead nobody sends. */
  sample(lead: string, atUs: number): Promise<EcgSample | null>;
}

const SILENT_AFTER_MS = 2000;
/** What has not painted yet cannot look live; a busy computer takes its time to begin. */
const STARTS_WITHIN_MS = 10_000;
const CHECK_MS = 500;

export function EcgView(props: EcgViewProps): React.JSX.Element {
  const stream = useSameUntilChanged(props.stream);
  const settings = useSameUntilChanged(settingsOf(props));
  const { contextVersion, channel, lang, onState, onStill, history, repair } = props;
  const { still = null, videoDelayMs = null, bound = true, firstVersion = null } = props;
  const stillUs = still?.atUs ?? null;
  const hasHistory = history !== undefined;
  const hasRepair = repair !== undefined;
  const box = useRef<HTMLDivElement>(null);
  const section = useRef<HTMLElement>(null);
  const handle = useRef<EcgHandle | null>(null);
  const [status, setStatus] = useState<EcgStatus | null>(null);
  const [stopped, setStopped] = useState(false);
  const heardAt = useRef(0);
  const listeners = useRef({ onState, onStill, history, repair });
  listeners.current = { onState, onStill, history, repair };
  const latest = useRef({ settings, contextVersion, firstVersion, stillUs, videoDelayMs, bound });
  latest.current = { settings, contextVersion, firstVersion, stillUs, videoDelayMs, bound };

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    heardAt.current = performance.now();
    // Of another signal: what was said of the one before says nothing of it.
    setStatus(null);
    setStopped(false);
    const fetchFrames: History = async (from, to) => (await listeners.current.history?.(from, to)) ?? [];
    const fetchMissing: Repair = (first, last) =>
      listeners.current.repair?.(first, last) ?? Promise.reject(new Error("no store"));
    const now = latest.current;
    let last: EcgStatus | null = null;
    let hasBegun = false;
    const ecg = mountEcg(element, {
      stream,
      channel,
      context: { version: now.contextVersion, first: now.firstVersion },
      settings: now.settings,
      history: hasHistory ? fetchFrames : undefined,
      repair: hasRepair ? fetchMissing : undefined,
      onStill: (map) => listeners.current.onStill?.(map),
      onStatus: (next) => {
        heardAt.current = performance.now();
        setStopped(false);
        hasBegun = true;
        last = next;
        setStatus(next);
        listeners.current.onState?.(next);
      },
    });
    if (now.stillUs !== null) ecg.setStill({ atUs: now.stillUs });
    ecg.setVideoDelay(now.videoDelayMs);
    ecg.setBound(now.bound);
    handle.current = ecg;
    if (isRecording && section.current !== null) exposeDrawn(section.current, ecg);
    const check = setInterval(() => {
      const isSilent = performance.now() - heardAt.current > (hasBegun ? SILENT_AFTER_MS : STARTS_WITHIN_MS);
      setStopped(isSilent);
      // The page around must not go on vouching for what was said last.
      if (isSilent && last !== null) listeners.current.onState?.({ ...last, state: "LOST", ageMs: null });
      if (isSilent) last = null;
    }, CHECK_MS);
    return () => {
      clearInterval(check);
      handle.current = null;
      ecg.dispose();
    };
  }, [stream, channel, hasHistory, hasRepair]);

  useEffect(() => handle.current?.setSettings(settings), [settings]);
  useEffect(
    () => handle.current?.setContext({ version: contextVersion, first: firstVersion }),
    [contextVersion, firstVersion],
  );
  useEffect(() => handle.current?.setBound(bound), [bound]);
  useEffect(() => handle.current?.setVideoDelay(videoDelayMs), [videoDelayMs]);
  useEffect(() => handle.current?.setStill(stillUs === null ? null : { atUs: stillUs }), [stillUs]);
  useImperativeHandle(props.ref, () => ({
    sample: async (lead, atUs) => (await handle.current?.sample(lead, atUs)) ?? null,
  }));

  const words = WORDS[lang];
  const state = stopped || status === null ? "LOST" : status.state;
  const spoken = spokenOf(status, state, words);
  return (
    <section
      ref={section}
      className={styles.ecg}
      data-testid="ecg"
      data-state={state}
      data-sync={status?.sync ?? "waiting"}
      data-age-ms={status?.ageMs == null ? "" : Math.round(status.ageMs)}
      data-samples-drawn={status?.samplesDrawn ?? 0}
      data-context={status?.context ?? ""}
      data-gaps={status?.gaps ?? 0}
      data-still={status?.isStill === true}
      data-fps={status === null ? "" : Math.round(status.framesPerSecond)}
      data-paint-ms={status === null ? "" : status.paintMs.toFixed(3)}
      data-limb-error={status?.limbError ?? 0}
      aria-label={words.label}
    >
      <div ref={box} className={styles.canvases} aria-hidden="true" />
      <p className={styles.spoken} role="status">
        {`${words.label}: ${spoken}. ${status?.isStill === true ? `${words.still}. ` : ""}`}
        {stream.simulated ? `${words.simulated}. ` : ""}
      </p>
      <p className={styles.spoken}>{words.warning}</p>
      {!stopped && status === null && (
        <p className={styles.starting} data-testid="ecg-starting">
          {words.starting}
        </p>
      )}
      {stopped && (
        <div className={styles.stopped} data-testid="ecg-stopped" role="alert">
          <strong>{words.displayStopped}</strong>
          <span>{words.frozen}</span>
        </div>
      )}
    </section>
  );
}

function spokenOf(status: EcgStatus | null, state: EcgStatus["state"], words: EcgWords): string {
  if (status?.sync === "not_in_sync") return words.notInSync;
  return status?.sync === "unbound" ? words.unbound : words.states[state];
}

/** Settings of a view with everything that was left out filled in. */
export function settingsOf(look: EcgLook & Partial<Pick<EcgViewProps, "mode" | "timing" | "dated">>): EcgSettings {
  const { layout = "auto", order = "standard", mode = "sweep", rhythm = [], timing = "live", dated = false } = look;
  const { speed = 25, gain = 10, filter = "off", notch = 0, zoom = null, theme, lang } = look;
  return {
    layout,
    order,
    mode,
    rhythm,
    timing,
    dated,
    zoom,
    filter,
    notch,
    theme,
    speedMmS: speed,
    gainMmMv: gain,
    language: lang,
  };
}

/** [test hook] Where the browser test finds what was drawn. */
function exposeDrawn(element: HTMLElement, ecg: EcgHandle): void {
  Object.assign(element, { ecgDrawn: (): Promise<readonly DrawnSample[]> => ecg.drawn() });
}

/** The same object as long as it says the same: a new copy of the store must not restart the display. */
function useSameUntilChanged<T>(value: T): T {
  const text = JSON.stringify(value);
  const kept = useRef({ text, value });
  if (kept.current.text !== text) kept.current = { text, value };
  return kept.current.value;
}
