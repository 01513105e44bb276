/**
 * A live ECG on calibrated paper.
 *
 * The component makes two canvases, hands them to a worker and from then on only carries
 * messages: frames and control answers in, requests out. It listens for the worker's
 * heartbeat; when that stops, the page itself covers the trace, so a frozen picture never
 * looks live (W14). `contextVersion` is what the page around it shows; samples of any
 * other context are not drawn (W19, W24).
 */

import { useEffect, useRef, useState } from "react";
import type { WaveformStream } from "../protocol/messages";
import type { EcgChannel } from "./channel";
import styles from "./EcgView.module.css";
import type { EcgSettings, EcgStatus } from "./engine";
import type { EcgGain, EcgLayout, EcgSpeed } from "./geometry";
import { type EcgHandle, mountEcg } from "./mount";
import type { EcgTheme } from "./palette";
import { type EcgLanguage, WORDS } from "./words";

export interface EcgViewProps {
  readonly stream: WaveformStream;
  /** The context version the page shows; null when no patient is open. */
  readonly contextVersion: number | null;
  readonly channel: EcgChannel;
  readonly theme: EcgTheme;
  readonly lang: EcgLanguage;
  readonly layout?: EcgLayout;
  readonly speed?: EcgSpeed;
  readonly gain?: EcgGain;
  readonly onState?: (status: EcgStatus) => void;
}

const SILENT_AFTER_MS = 2000;
const CHECK_MS = 500;

export function EcgView(props: EcgViewProps): React.JSX.Element {
  const stream = useSameUntilChanged(props.stream);
  const { contextVersion, channel, theme, lang, layout = "auto", speed = 25, gain = 10, onState } = props;
  const box = useRef<HTMLDivElement>(null);
  const handle = useRef<EcgHandle | null>(null);
  const [status, setStatus] = useState<EcgStatus | null>(null);
  const [stopped, setStopped] = useState(false);
  const heardAt = useRef(0);
  const listener = useRef(onState);
  listener.current = onState;
  const settings: EcgSettings = { layout, speedMmS: speed, gainMmMv: gain, theme, language: lang };
  const latest = useRef({ settings, contextVersion });
  latest.current = { settings, contextVersion };

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    heardAt.current = performance.now();
    const ecg = mountEcg(element, {
      stream,
      channel,
      ...latest.current,
      onStatus: (next) => {
        heardAt.current = performance.now();
        setStopped(false);
        setStatus(next);
        listener.current?.(next);
      },
    });
    handle.current = ecg;
    const check = setInterval(() => {
      setStopped(performance.now() - heardAt.current > SILENT_AFTER_MS);
    }, CHECK_MS);
    return () => {
      clearInterval(check);
      handle.current = null;
      ecg.dispose();
    };
  }, [stream, channel]);

  useEffect(() => {
    handle.current?.setSettings({ layout, speedMmS: speed, gainMmMv: gain, theme, language: lang });
  }, [layout, speed, gain, theme, lang]);

  useEffect(() => {
    handle.current?.setContext(contextVersion);
  }, [contextVersion]);

  const words = WORDS[lang];
  const state = stopped || status === null ? "LOST" : status.state;
  const spoken = status?.sync === "not_in_sync" ? words.notInSync : words.states[state];
  return (
    <section
      className={styles.ecg}
      data-testid="ecg"
      data-state={state}
      data-sync={status?.sync ?? "waiting"}
      data-age-ms={status?.ageMs == null ? "" : Math.round(status.ageMs)}
      data-samples-drawn={status?.samplesDrawn ?? 0}
      data-context={status?.context ?? ""}
      data-gaps={status?.gaps ?? 0}
      aria-label={words.label}
    >
      <div ref={box} className={styles.canvases} aria-hidden="true" />
      <p className={styles.spoken} role="status">
        {`${words.label}: ${spoken}. ${stream.simulated ? `${words.simulated}. ` : ""}`}
      </p>
      <p className={styles.spoken}>{words.warning}</p>
      {stopped && (
        <div className={styles.stopped} data-testid="ecg-stopped" role="alert">
          <strong>{words.displayStopped}</strong>
          <span>{words.frozen}</span>
        </div>
      )}
    </section>
  );
}

/** The same object as long as it says the same: a new copy of the store must not restart the display. */
function useSameUntilChanged<T>(value: T): T {
  const text = JSON.stringify(value);
  const kept = useRef({ text, value });
  if (kept.current.text !== text) kept.current = { text, value };
  return kept.current.value;
}
