/** A recorded ECG: imported, or a prior one beside the present one (`EcgBeside`). Its date is always on it. */

import { type Ref, useEffect, useImperativeHandle, useMemo, useRef, useState } from "react";
import type { WaveformStream } from "../protocol/messages";
import { type EcgLook, type EcgViewHandle, settingsOf } from "./EcgView";
import styles from "./EcgView.module.css";
import type { EcgSize } from "./engine";
import { watchSize } from "./mount";
import { dateText } from "./overlay";
import { RecordingView } from "./recordingView";
import type { StillAt, StillMap } from "./settings";
import { WORDS } from "./words";

export interface EcgStillProps extends EcgLook {
  readonly stream: WaveformStream;
  /** Frames as stored, in any order. */
  readonly frames: readonly Uint8Array[];
  /** What it is, "Prior ECG" or a file's title; never a patient's name. */
  readonly title?: string;
  /** Right edge; null or absent: the page that begins at `fromUs`. */
  readonly at?: StillAt | null;
  /** Left edge; absent: the first page. */
  readonly fromUs?: number;
  readonly onStill?: (map: StillMap | null) => void;
  readonly ref?: Ref<EcgViewHandle>;
}

export function EcgStill(props: EcgStillProps): React.JSX.Element {
  const { stream, frames, title = "", at = null, fromUs = null, onStill, lang } = props;
  const box = useRef<HTMLDivElement>(null);
  const canvases = useRef<{ trace: HTMLCanvasElement; text: HTMLCanvasElement } | null>(null);
  const [size, setSize] = useState<EcgSize | null>(null);
  const view = useMemo(() => new RecordingView(stream, frames), [stream, frames]);
  const settings = JSON.stringify(settingsOf(props));
  const listener = useRef(onStill);
  listener.current = onStill;

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const trace = document.createElement("canvas");
    const text = document.createElement("canvas");
    element.replaceChildren(trace, text);
    canvases.current = { trace, text };
    return watchSize(element, setSize);
  }, []);

  useEffect(() => {
    if (canvases.current === null || size === null) return;
    const { trace, text } = canvases.current;
    const shown = { settings: JSON.parse(settings), size, title, atUs: at?.atUs ?? null, fromUs };
    const map = view.paint(trace, text, shown);
    listener.current?.(map);
  }, [view, settings, size, title, at?.atUs, fromUs]);

  useImperativeHandle(props.ref, () => ({ sample: async (lead, atUs) => view.sample(lead, atUs) }));

  const words = WORDS[lang];
  const begin = view.span?.fromUs;
  const from = begin === undefined ? undefined : Math.max(begin, fromUs ?? begin);
  return (
    <section
      className={styles.ecg}
      data-testid="ecg-still"
      data-from-us={from ?? ""}
      aria-label={`${title === "" ? words.recorded : title} ${from === undefined ? "" : dateText(from)}`}
    >
      <div ref={box} className={styles.canvases} aria-hidden="true" />
      <p className={styles.spoken}>{words.warning}</p>
    </section>
  );
}
