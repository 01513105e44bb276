/** What the person's hospital is asked for: attach it, or decline with a reason (C26). */
import { Button, Switch, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ConsultCard } from "../common/api";
import { ApiError, ignoreBody, useHttp } from "../common/http";
import { list, obj, str } from "../common/read";
import { localized } from "../i18n";
import { Identity } from "../record/PatientBanner";
import type { PatientBanner } from "../record/types";
import { askPath, type CaseAsk } from "./api";
import styles from "./CasePack.module.css";
import { useOverview, useRefreshOverview } from "./queries";
import { fhirTime, whenText } from "./words";

const UPLOAD_TIMEOUT_MS = 600_000;
const ENDINGS = ".pdf,.png,.jpg,.jpeg,.dcm,.zip,.edf,.bdf,.scp,.xml,.json";

export function HomeAsks({ consults }: { consults: readonly ConsultCard[] }) {
  const { t } = useTranslation();
  const overview = useOverview();
  const asks = overview.data?.asks ?? [];
  if (asks.length === 0) return null;
  return (
    <section
      className={`${styles.card} ${styles.asks}`}
      aria-label={t("casepack.home.title")}
      data-testid="casepack-asks"
    >
      <h2 className={styles.heading}>{t("casepack.home.title")}</h2>
      {asks.map((ask) => {
        const patients = consults.find(({ id }) => id === ask.consult)?.patients ?? [];
        const patient = patients.find(({ id }) => id === ask.patient);
        // Without the patient's identity on screen nothing may be attached (W18).
        return patient === undefined ? null : <Ask key={ask.id} ask={ask} patient={patient} />;
      })}
    </section>
  );
}

function Ask({ ask, patient }: { ask: CaseAsk; patient: PatientBanner }) {
  const { t } = useTranslation();
  const [doing, setDoing] = useState<"attach" | "decline" | null>(null);
  const from = { by: ask.by, hospital: ask.byHospital, when: whenText(ask.askedAtMs) };
  return (
    <article className={styles.ask} data-testid={`casepack-ask-${ask.part}`}>
      <strong>{localized(ask)}</strong>
      <Identity patient={patient} />
      <p className={styles.soft}>
        {ask.consultTitle} · {t("casepack.home.from", from)}
      </p>
      {ask.note !== "" && <p className={styles.soft}>{ask.note}</p>}
      {doing === null && (
        <div className={styles.actions}>
          <Button onClick={() => setDoing("attach")}>{t("casepack.home.attach")}</Button>
          <Button variant="default" onClick={() => setDoing("decline")}>
            {t("casepack.home.decline")}
          </Button>
        </div>
      )}
      {doing === "attach" && <Attach ask={ask} patient={patient} onCancel={() => setDoing(null)} />}
      {doing === "decline" && <Decline ask={ask} onCancel={() => setDoing(null)} />}
    </article>
  );
}

/** Send, and say what went wrong. */
function useSending() {
  const refresh = useRefreshOverview();
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const run = async (work: () => Promise<void>): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await work();
      await refresh();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  return { isBusy, problem, run };
}

function Attach({ ask, patient, onCancel }: { ask: CaseAsk; patient: PatientBanner; onCancel: () => void }) {
  const { t } = useTranslation();
  const http = useHttp();
  const { isBusy, problem, run } = useSending();
  const [file, setFile] = useState<File | null>(null);
  const [title, setTitle] = useState("");
  const [taken, setTaken] = useState("");
  const [isConfirmed, setConfirmed] = useState(false);
  const reported = problem?.code === "patient_differs" ? list(obj(problem.details).reported).map(str) : null;
  const send = (event: FormEvent): void => {
    event.preventDefault();
    if (file === null) return;
    const form = new FormData();
    form.set("title", title.trim());
    form.set("taken", fhirTime(taken));
    if (reported !== null) form.set("patient_checked", "true");
    form.set("file", file, file.name);
    // Said of another patient: it is to be confirmed anew.
    setConfirmed(false);
    void run(() => http.upload(askPath(ask, "answer"), form, ignoreBody, { timeoutMs: UPLOAD_TIMEOUT_MS }));
  };
  return (
    <form className={styles.form} onSubmit={send}>
      <label className={styles.file}>
        <span>{t("casepack.home.file")}</span>
        <input
          type="file"
          accept={ENDINGS}
          required
          onChange={(event) => {
            setFile(event.currentTarget.files?.[0] ?? null);
            setConfirmed(false);
          }}
        />
        <small>{t("casepack.home.fileHint")}</small>
      </label>
      <TextInput
        label={t("casepack.home.name")}
        value={title}
        maxLength={80}
        onChange={(event) => setTitle(event.currentTarget.value)}
      />
      <TextInput
        type="datetime-local"
        label={t("casepack.home.taken")}
        description={t("casepack.home.takenHint")}
        value={taken}
        onChange={(event) => setTaken(event.currentTarget.value)}
      />
      {reported !== null && (
        <p className={styles.problem} role="alert">
          {t("casepack.home.differs", { reported: reported.join(", ") })}
        </p>
      )}
      {problem !== null && reported === null && (
        <p className={styles.problem} role="alert">
          {localized(problem)}
        </p>
      )}
      <Switch
        label={t("casepack.home.confirm", { name: patient.name })}
        checked={isConfirmed}
        onChange={(event) => setConfirmed(event.currentTarget.checked)}
      />
      <div className={styles.actions}>
        <Button type="submit" loading={isBusy} disabled={file === null || !isConfirmed}>
          {t("casepack.home.send")}
        </Button>
        <Button variant="default" onClick={onCancel}>
          {t("casepack.home.cancel")}
        </Button>
      </div>
    </form>
  );
}

function Decline({ ask, onCancel }: { ask: CaseAsk; onCancel: () => void }) {
  const { t } = useTranslation();
  const http = useHttp();
  const { isBusy, problem, run } = useSending();
  const [reason, setReason] = useState("");
  const send = (event: FormEvent): void => {
    event.preventDefault();
    void run(() => http.post(askPath(ask, "decline"), { reason: reason.trim() }, ignoreBody));
  };
  return (
    <form className={styles.form} onSubmit={send}>
      <TextInput
        label={t("casepack.home.reason")}
        value={reason}
        maxLength={1000}
        required
        onChange={(event) => setReason(event.currentTarget.value)}
      />
      {problem !== null && (
        <p className={styles.problem} role="alert">
          {localized(problem)}
        </p>
      )}
      <div className={styles.actions}>
        <Button type="submit" color="red" loading={isBusy} disabled={reason.trim() === ""}>
          {t("casepack.home.sendDecline")}
        </Button>
        <Button variant="default" onClick={onCancel}>
          {t("casepack.home.cancel")}
        </Button>
      </div>
    </form>
  );
}
