/** An earlier ECG of the same patient beside the present one, in the same scale, with its date (item 6 of the display). */
import { ActionIcon, Button, Modal } from "@mantine/core";
import { FileUp, X } from "lucide-react";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { ErrorState, Loading } from "../common/states";
import { EcgStill } from "../waveform/EcgStill";
import type { EcgLook } from "../waveform/EcgView";
import type { RecordedStream } from "./api";
import type { FrameHistory } from "./history";
import styles from "./PriorPane.module.css";
import { clockOf } from "./review";

export interface PriorPaneProps {
  readonly prior: RecordedStream;
  readonly history: FrameHistory;
  readonly look: EcgLook;
  readonly onClose: () => void;
}

type Loaded = { readonly kind: "loading" } | { readonly kind: "failed"; readonly error: unknown } | Ready;
interface Ready {
  readonly kind: "ready";
  readonly frames: readonly Uint8Array[];
}

/** What is shown around a position; more would be held for nothing. */
const AROUND_US = 30_000_000;
/** At the end of the slider this much is still to be seen. */
const LAST_US = 5_000_000;

export function PriorPane({ prior, history, look, onClose }: PriorPaneProps) {
  const { t, i18n } = useTranslation();
  const [fromUs, setFrom] = useState(prior.firstUs);
  const [attempt, setAttempt] = useState(0);
  const loaded = useFrames(history, fromUs, Math.min(prior.lastUs, fromUs + AROUND_US), attempt);
  const lengthUs = prior.lastUs - prior.firstUs;
  const title = prior.title === "" ? t(`ecg.prior.kinds.${prior.kind}`) : prior.title;
  return (
    <section className={styles.pane} data-testid="ecg-prior" aria-label={t("ecg.prior.title")}>
      <header className={styles.head}>
        <strong>{title}</strong>
        <span>{t("ecg.prior.recorded", { time: clockOf(prior.firstUs, i18n.language, true) })}</span>
        {lengthUs > AROUND_US && (
          <input
            type="range"
            className={styles.slider}
            min={0}
            max={Math.floor((lengthUs - LAST_US) / 1e6)}
            step={5}
            value={Math.round((fromUs - prior.firstUs) / 1e6)}
            aria-label={t("ecg.prior.at")}
            aria-valuetext={clockOf(fromUs, i18n.language)}
            onChange={(event) => setFrom(prior.firstUs + Number(event.currentTarget.value) * 1e6)}
          />
        )}
        <ActionIcon variant="subtle" aria-label={t("ecg.prior.remove")} onClick={onClose}>
          <X size={18} />
        </ActionIcon>
      </header>
      <div className={styles.trace}>
        {loaded.kind === "loading" && <Loading label={t("ecg.prior.loading")} />}
        {loaded.kind === "failed" && (
          <ErrorState error={loaded.error} title={t("ecg.prior.failed")} onRetry={() => setAttempt(attempt + 1)} />
        )}
        {loaded.kind === "ready" && (
          <EcgStill {...look} stream={prior.stream} frames={loaded.frames} fromUs={fromUs} title={title} />
        )}
      </div>
    </section>
  );
}

function useFrames(history: FrameHistory, fromUs: number, toUs: number, attempt: number): Loaded {
  const [loaded, setLoaded] = useState<Loaded>({ kind: "loading" });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another attempt asks again.
  useEffect(() => {
    let isCurrent = true;
    history.range(fromUs, toUs).then(
      (frames) => isCurrent && setLoaded({ kind: "ready", frames }),
      (error: unknown) => isCurrent && setLoaded({ kind: "failed", error }),
    );
    return () => {
      isCurrent = false;
    };
  }, [history, fromUs, toUs, attempt]);
  return loaded;
}

export interface PriorDialogProps {
  readonly opened: boolean;
  readonly streams: readonly RecordedStream[];
  readonly isLoading: boolean;
  readonly error: unknown;
  readonly canImport: boolean;
  readonly onRetry: () => void;
  readonly onChoose: (stream: RecordedStream) => void;
  readonly onImport: () => void;
  readonly onClose: () => void;
}

/** Which earlier ECG; newest first. Named by the archive: a device comes back with the number it had. */
export function PriorDialog(props: PriorDialogProps) {
  const { t } = useTranslation();
  return (
    <Modal
      opened={props.opened}
      onClose={props.onClose}
      title={t("ecg.prior.choose")}
      centered
      closeButtonProps={{ "aria-label": t("ecg.tools.close") }}
    >
      <div className={styles.list} data-testid="ecg-prior-list">
        <Choices {...props} />
        {props.canImport && (
          <Button
            variant="default"
            leftSection={<FileUp size={16} aria-hidden="true" />}
            onClick={props.onImport}
            data-testid="ecg-import"
          >
            {t("ecg.prior.import")}
          </Button>
        )}
      </div>
    </Modal>
  );
}

function Choices({ streams, isLoading, error, onRetry, onChoose }: PriorDialogProps) {
  const { t, i18n } = useTranslation();
  if (error !== null) return <ErrorState error={error} title={t("ecg.review.failed")} onRetry={onRetry} />;
  if (isLoading) return <Loading />;
  if (streams.length === 0) {
    return (
      <p className={styles.none}>
        <strong>{t("ecg.prior.none")}</strong> {t("ecg.prior.noneHint")}
      </p>
    );
  }
  return [...streams]
    .sort((a, b) => b.firstUs - a.firstUs)
    .map((entry) => (
      <button
        key={entry.id}
        type="button"
        className={styles.choice}
        onClick={() => onChoose(entry)}
        data-testid={`prior-${entry.id}`}
      >
        <strong>{clockOf(entry.firstUs, i18n.language, true)}</strong>
        <span>{entry.title === "" ? entry.stream.device : entry.title}</span>
        <span className={styles.soft}>
          {t(`ecg.prior.kinds.${entry.kind}`)} · {entry.stream.leads.length} · {entry.stream.sample_rate_mhz / 1000} Hz
        </span>
      </button>
    ));
}
