/** A strip on its way into the record: how far it is, what came of it, where it is, and its print (W33). */
import { Button, Modal } from "@mantine/core";
import { CircleAlert, CircleCheck, Printer } from "lucide-react";
import { useTranslation } from "react-i18next";
import { localized } from "../i18n";
import { useNow } from "../media/useNow";
import type { EcgSnapshot } from "../protocol";
import { type ArchiveContext, printPath } from "./api";
import { clockOf } from "./review";
import styles from "./SnapshotDialog.module.css";
import { AFTER_US, type SnapshotState } from "./useSnapshot";

export interface SnapshotDialogProps {
  readonly context: ArchiveContext;
  readonly present: SnapshotState | null;
  readonly serverUs: () => number;
  readonly onAgain: () => void;
  readonly onClose: () => void;
}

export function SnapshotDialog({ context, present, serverUs, onAgain, onClose }: SnapshotDialogProps) {
  const { t } = useTranslation();
  return (
    <Modal
      opened={present !== null}
      onClose={onClose}
      title={t("ecg.snapshot.title")}
      centered
      closeButtonProps={{ "aria-label": t("ecg.snapshot.close") }}
    >
      {present !== null && (
        <div className={styles.body} data-testid="ecg-snapshot" data-state={present.kind}>
          {present.kind === "waiting" && <Waiting atUs={present.atUs} serverUs={serverUs} />}
          {present.kind === "taken" && <Taken context={context} snapshot={present.snapshot} />}
          {present.kind === "failed" && <Failed refusal={present.refusal} onAgain={onAgain} />}
          {present.kind === "late" && (
            <p className={styles.bad} role="alert">
              <CircleAlert aria-hidden="true" /> {t("ecg.snapshot.late")}
            </p>
          )}
        </div>
      )}
    </Modal>
  );
}

function Waiting({ atUs, serverUs }: { atUs: number; serverUs: () => number }) {
  const { t, i18n } = useTranslation();
  useNow(250);
  const leftUs = Math.max(0, atUs + AFTER_US - serverUs());
  const seconds = Math.ceil(leftUs / 1e6);
  return (
    <>
      <p>{t("ecg.snapshot.taking", { time: clockOf(atUs, i18n.language) })}</p>
      <progress className={styles.progress} max={AFTER_US} value={AFTER_US - leftUs} />
      <p className={styles.soft} role="status">
        {seconds > 0 ? t("ecg.snapshot.waiting", { seconds }) : t("ecg.snapshot.storing")}
      </p>
    </>
  );
}

const SHEETS = 24;
/** What so many sheets of a print hold at the fastest paper speed: 270 mm at 50 mm/s each. */
const PRINTED_US = SHEETS * 5_400_000;

export function Taken({ context, snapshot }: { context: ArchiveContext; snapshot: EcgSnapshot }) {
  const { t, i18n } = useTranslation();
  const { gaps, lost } = snapshot;
  const isWhole = gaps === 0 && lost === 0;
  const [from, to] = [clockOf(snapshot.from_us, i18n.language, true), clockOf(snapshot.to_us, i18n.language)];
  return (
    <>
      <p className={styles.good} role="status">
        <CircleCheck aria-hidden="true" /> <strong>{t("ecg.snapshot.taken")}</strong>
      </p>
      <p>{t("ecg.snapshot.span", { from, to })}</p>
      <p className={isWhole ? undefined : styles.bad}>
        {isWhole ? t("ecg.snapshot.complete") : t("ecg.snapshot.incomplete", { gaps, lost })}
      </p>
      <p className={styles.soft}>{t("ecg.snapshot.where")}</p>
      <p className={styles.soft}>
        {t("ecg.snapshot.hash")}: <code className={styles.hash}>{snapshot.sha256}</code>
      </p>
      {snapshot.to_us - snapshot.from_us > PRINTED_US && (
        <p className={styles.bad} data-testid="snapshot-unprinted">
          {t("ecg.snapshot.unprinted", { sheets: SHEETS })}
        </p>
      )}
      <div className={styles.actions}>
        {(["svg", "pdf"] as const).map((kind) => (
          <Button
            key={kind}
            component="a"
            href={printPath(context, snapshot.id, kind)}
            target="_blank"
            rel="noopener"
            variant="default"
            leftSection={<Printer size={16} aria-hidden="true" />}
          >
            {t("ecg.snapshot.print", { kind: kind.toUpperCase() })}
          </Button>
        ))}
      </div>
    </>
  );
}

function Failed({ refusal, onAgain }: { refusal: { en: string; zh: string } | null; onAgain: () => void }) {
  const { t } = useTranslation();
  return (
    <>
      <p className={styles.bad} role="alert">
        <CircleAlert aria-hidden="true" /> <strong>{t("ecg.snapshot.failed")}</strong>
      </p>
      {refusal !== null && <p>{localized(refusal)}</p>}
      <div className={styles.actions}>
        <Button onClick={onAgain}>{t("ecg.snapshot.again")}</Button>
      </div>
    </>
  );
}
