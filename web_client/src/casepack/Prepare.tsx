/**
 * Preparing a pack: what the record gives, what the specialty misses, what the sender writes.
 *
 * What is sent is what was seen: after any change the pack is put together anew before it can be sent, and the
 * server refuses when the record has moved on meanwhile.
 */
import { Button, NativeSelect, Textarea, TextInput } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "../common/http";
import { ErrorState, Loading } from "../common/states";
import { localized } from "../i18n";
import { type DraftPack, type Finding, type PackRequest, REQUEST_FIELDS, type RequestField, type Words } from "./api";
import styles from "./CasePack.module.css";
import { Lines } from "./PackContent";
import { Parts } from "./Parts";
import { useDraft, useSaveDraft, useSendPack } from "./queries";
import { fhirTime, localTime } from "./words";

export interface PrepareProps {
  consult: string;
  patient: string;
  /** Name of the hospital that is asked for what is missing. */
  partner: string;
  specialties: readonly (Words & { key: string })[];
  maySend: boolean;
}

export function Prepare(props: PrepareProps) {
  const draft = useDraft(props.consult, props.patient);
  if (draft.data === undefined) {
    return draft.isError ? <ErrorState error={draft.error} onRetry={() => void draft.refetch()} /> : <Loading />;
  }
  return <Editor {...props} draft={draft.data} />;
}

function Editor({ consult, patient, partner, specialties, maySend, draft }: PrepareProps & { draft: DraftPack }) {
  const { t } = useTranslation();
  const [request, setRequest] = useState<PackRequest>(draft.request);
  const [specialty, setSpecialty] = useState(draft.specialty);
  const [leftOut, setLeftOut] = useState<readonly string[]>(draft.leftOut);
  const [hasSent, setSent] = useState(false);
  const save = useSaveDraft(consult, patient);
  const send = useSendPack(consult, patient);
  const written = JSON.stringify([request, specialty, leftOut.toSorted()]);
  const kept = JSON.stringify([draft.request, draft.specialty, draft.leftOut.toSorted()]);
  const isDirty = written !== kept;
  const change = (part: Partial<PackRequest>): void => {
    setRequest({ ...request, ...part });
    setSent(false);
  };
  const update = (next: { specialty?: string } = {}): void => {
    setSent(false);
    save.mutate(
      { specialty: next.specialty ?? specialty, request, leftOut },
      // Facts that another table does not ask for are left aside by the server.
      { onSuccess: (made) => setRequest(made.request) },
    );
  };
  const toggle = (ref: string): void =>
    setLeftOut(leftOut.includes(ref) ? leftOut.filter((one) => one !== ref) : [...leftOut, ref]);
  return (
    <div className={styles.columns}>
      <div className={styles.page}>
        <section className={`${styles.card} ${styles.form}`}>
          <h2 className={styles.heading}>{t("casepack.request")}</h2>
          {REQUEST_FIELDS.map((field) => (
            <Field key={field} field={field} value={request[field]} onChange={(text) => change({ [field]: text })} />
          ))}
          {draft.findings
            .filter(({ fact }) => fact !== null)
            .map((one) => (
              <Fact
                key={one.part}
                finding={one}
                value={request.facts[one.part] ?? ""}
                onChange={(text) => change({ facts: { ...request.facts, [one.part]: text } })}
              />
            ))}
        </section>
        <section className={`${styles.card} ${styles.form}`}>
          <NativeSelect
            label={t("casepack.specialty")}
            value={specialty}
            data={specialties.map((one) => ({ value: one.key, label: localized(one) }))}
            onChange={(event) => {
              setSpecialty(event.currentTarget.value);
              update({ specialty: event.currentTarget.value });
            }}
            data-testid="casepack-specialty"
          />
          <Parts place={{ consult, patient, partner }} {...draft} />
        </section>
      </div>
      <div className={styles.page}>
        <section className={styles.card}>
          <h2 className={styles.heading}>{t("casepack.content")}</h2>
          <Lines lines={draft.lines} leftOut={leftOut} onToggle={toggle} />
          {leftOut.map((ref) => (
            <TakenOut key={ref} ref_={ref} lines={draft.lines} onBack={() => toggle(ref)} />
          ))}
        </section>
        <section className={`${styles.card} ${styles.form}`}>
          {isDirty && <p className={styles.soft}>{t("casepack.dirty")}</p>}
          {!isDirty && draft.lacking.length > 0 && (
            <p className={styles.problem} data-testid="casepack-lacking">
              {t("casepack.lacking", { fields: draft.lacking.map((one) => t(`casepack.field.${one}`)).join(" · ") })}
            </p>
          )}
          <Problem error={save.error ?? send.error} />
          {hasSent && <p role="status">{t("casepack.sent")}</p>}
          <div className={styles.actions}>
            <Button
              variant={isDirty ? "filled" : "default"}
              loading={save.isPending}
              onClick={() => update()}
              data-testid="casepack-save"
            >
              {t("casepack.save")}
            </Button>
            {maySend && (
              <Button
                disabled={isDirty || draft.lacking.length > 0}
                loading={send.isPending}
                onClick={() => send.mutate(draft.contentHash, { onSuccess: () => setSent(true) })}
                data-testid="casepack-send"
              >
                {t("casepack.send")}
              </Button>
            )}
          </div>
          <p className={styles.soft}>{t("casepack.sendHint")}</p>
        </section>
      </div>
    </div>
  );
}

/** What was taken out and is therefore not among the lines any more; one click brings it back. */
function TakenOut({ ref_, lines, onBack }: { ref_: string; lines: DraftPack["lines"]; onBack: () => void }) {
  const { t } = useTranslation();
  if (lines.some(({ ref }) => ref === ref_)) return null;
  return (
    <p className={styles.line}>
      <input type="checkbox" checked={false} onChange={onBack} aria-label={t("casepack.include", { title: ref_ })} />
      <span className={styles.soft}>{ref_}</span>
    </p>
  );
}

function Field({ field, value, onChange }: { field: RequestField; value: string; onChange: (text: string) => void }) {
  const { t } = useTranslation();
  const label = t(`casepack.field.${field}`);
  const isShort = field === "speciality" || field === "title";
  if (isShort) {
    return (
      <TextInput
        label={label}
        description={field === "title" ? t("casepack.titleHint") : undefined}
        value={value}
        maxLength={200}
        onChange={(event) => onChange(event.currentTarget.value)}
      />
    );
  }
  return (
    <Textarea
      label={label}
      value={value}
      maxLength={4000}
      rows={3}
      classNames={{ input: styles.growing ?? "" }}
      onChange={(event) => onChange(event.currentTarget.value)}
      data-testid={`casepack-${field}`}
    />
  );
}

function Fact({ finding, value, onChange }: { finding: Finding; value: string; onChange: (text: string) => void }) {
  const isTime = finding.fact === "time";
  return (
    <TextInput
      type={isTime ? "datetime-local" : "text"}
      label={localized(finding)}
      value={isTime ? localTime(value) : value}
      maxLength={200}
      onChange={(event) => onChange(isTime ? fhirTime(event.currentTarget.value) : event.currentTarget.value)}
    />
  );
}

function Problem({ error }: { error: unknown }) {
  if (!(error instanceof ApiError)) return null;
  return (
    <p className={styles.problem} role="alert" data-testid="casepack-problem">
      {localized(error)}
    </p>
  );
}
