/**
 * Binding a device at the bedside: two identifiers, read or scanned there, and for how long (W20).
 *
 * A scanner types like a keyboard and ends with Enter or Tab: Enter in the first field goes on to the second, in the
 * second it binds. What was wrong is cleared, so that the next scan does not land behind it.
 */
import { Button, Modal, NativeSelect, TextInput } from "@mantine/core";
import { TriangleAlert } from "lucide-react";
import { type FormEvent, type KeyboardEvent, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { localized } from "../i18n";
import { RefusalError, UnansweredError } from "../net/refusal";
import type { AnyCommand, Consult, DeviceUnbound, PatientBanner } from "../protocol";
import styles from "./BindingDialog.module.css";
import { type DeviceRow, deviceRows, inputProblem, LENGTHS_MIN, USUAL_MIN } from "./binding";
import { clockTime } from "./clockTime";

export interface BindingDialogProps {
  consult: Consult;
  me: string;
  endings: Readonly<Record<string, DeviceUnbound>>;
  nowMs: number;
  opened: boolean;
  /** The device that was meant when it was opened. */
  device: string | null;
  onClose: () => void;
  /** Rejects with the server's refusal. */
  send: (command: AnyCommand) => Promise<unknown>;
}

export function BindingDialog(props: BindingDialogProps) {
  const { t } = useTranslation();
  return (
    <Modal
      closeButtonProps={{ "aria-label": t("binding.dialog.close") }}
      opened={props.opened}
      onClose={props.onClose}
      title={t("binding.dialog.title")}
      centered
      size="lg"
    >
      {/* Another patient: nothing that was typed for the one before is kept. */}
      {props.opened && <Content key={props.consult.context_version} {...props} />}
    </Modal>
  );
}

function Content(props: BindingDialogProps) {
  const { consult, me, endings, nowMs } = props;
  const { t } = useTranslation();
  const rows = deviceRows(consult, me, endings, nowMs);
  const [chosen, setChosen] = useState(props.device);
  const row = rows.find(({ device }) => device.id === chosen) ?? rows.find(({ canBind }) => canBind) ?? rows[0];
  if (consult.context === null) return <p className={styles.note}>{t("binding.dialog.noPatient")}</p>;
  if (row === undefined) return <p className={styles.note}>{t("binding.dialog.none")}</p>;
  return (
    <div className={styles.content} data-testid="binding-dialog">
      <div className={styles.patient}>
        <h3 className={styles.heading}>{t("binding.dialog.patient")}</h3>
        <WhoseName patient={consult.context.patient} />
      </div>
      {rows.length > 1 ? (
        <NativeSelect
          label={t("binding.dialog.choose")}
          value={row.device.id}
          onChange={(event) => setChosen(event.currentTarget.value)}
          data={rows.map(({ device }) => ({ value: device.id, label: `${device.name} · ${device.hospital}` }))}
          data-testid="binding-device"
        />
      ) : (
        <p className={styles.device}>
          <strong>{row.device.name}</strong> <span>{row.device.hospital}</span>
        </p>
      )}
      <BoundUntil key={`until ${row.device.id}`} row={row} send={props.send} />
      {row.canBind ? (
        <BindForm key={row.device.id} row={row} context={consult.context} send={props.send} onDone={props.onClose} />
      ) : (
        <p className={styles.note}>{t("binding.dialog.elsewhere", { hospital: row.device.hospital })}</p>
      )}
    </div>
  );
}

/** Name, sex and birth date, to be compared aloud; the identifiers are what is to be read from the wristband. */
function WhoseName({ patient }: { patient: PatientBanner }) {
  const { t } = useTranslation();
  const latin = patient.name_latin === patient.name ? "" : patient.name_latin;
  return (
    <p className={styles.name}>
      <strong>{patient.name}</strong> {latin} · {t(`record.banner.${patient.sex}`)} · {patient.birth_date}
    </p>
  );
}

interface BoundUntilProps {
  row: DeviceRow;
  send: BindingDialogProps["send"];
}

/** The binding there is, and the way to end it; ending asks once more, for it takes the ECG from everyone. */
function BoundUntil({ row, send }: BoundUntilProps) {
  const { t } = useTranslation();
  const [isAsking, setAsking] = useState(false);
  const [busy, error, run] = useSending();
  const cancel = useRef<HTMLButtonElement>(null);
  // The button that was pressed is gone; the keyboard goes on at the harmless one.
  useEffect(() => {
    if (isAsking) cancel.current?.focus();
  }, [isAsking]);
  if (row.binding === null) return null;
  const end = (): void =>
    void run(
      () => send({ type: "unbind_device", device: row.device.id }),
      () => setAsking(false),
    );
  return (
    <div className={styles.bound}>
      <p className={styles.note} data-testid="binding-until">
        {t("binding.dialog.done", { time: clockTime(row.binding.until_ms) })}
      </p>
      {row.canUnbind &&
        (isAsking ? (
          <div className={styles.sure}>
            <span role="status">{t("binding.dialog.unbindSure")}</span>
            <Button color="red" loading={busy} onClick={end} data-testid="unbind-sure">
              {t("binding.dialog.unbindYes")}
            </Button>
            <Button ref={cancel} variant="default" onClick={() => setAsking(false)}>
              {t("binding.dialog.cancel")}
            </Button>
          </div>
        ) : (
          <Button variant="default" onClick={() => setAsking(true)} data-testid="unbind">
            {t("binding.dialog.unbind")}
          </Button>
        ))}
      <Problem text={error} />
    </div>
  );
}

interface BindFormProps {
  row: DeviceRow;
  context: NonNullable<Consult["context"]>;
  send: BindingDialogProps["send"];
  onDone: () => void;
}

function BindForm({ row, context, send, onDone }: BindFormProps) {
  const { t } = useTranslation();
  const [first, setFirst] = useState("");
  const [second, setSecond] = useState("");
  const [minutes, setMinutes] = useState<number>(USUAL_MIN);
  const [busy, error, run, clearError] = useSending();
  const firstField = useRef<HTMLInputElement>(null);
  const secondField = useRef<HTMLInputElement>(null);
  const [labelA, labelB] = context.patient.identifiers.map(({ label }) => label);
  const problem = inputProblem(first, second);
  useEffect(() => {
    if (error !== null) firstField.current?.focus();
  }, [error]);

  const bind = (event: FormEvent): void => {
    event.preventDefault();
    if (problem !== null || busy || row.contradiction !== null) return;
    const command: AnyCommand = {
      type: "bind_device",
      device: row.device.id,
      patient: context.patient.id,
      context_version: context.version,
      confirmed: [first, second],
      minutes,
    };
    void run(
      () => send(command),
      onDone,
      () => {
        setFirst("");
        setSecond("");
      },
    );
  };
  /** Enter ends a scan: it goes on to the other field as long as that one is empty. */
  const goOn = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || second !== "") return;
    event.preventDefault();
    if (first.trim() !== "") secondField.current?.focus();
  };
  const type = (set: (text: string) => void) => (event: { currentTarget: HTMLInputElement }) => {
    clearError();
    set(event.currentTarget.value);
  };
  const plain = { autoComplete: "off", autoCapitalize: "off", autoCorrect: "off", spellCheck: false, maxLength: 200 };
  return (
    <form className={styles.form} onSubmit={bind} data-testid="bind-form">
      <p className={styles.note}>{t("binding.dialog.steps")}</p>
      {row.contradiction !== null && (
        <Problem text={t("binding.dialog.contradiction", { reported: row.contradiction })} />
      )}
      <TextInput
        ref={firstField}
        label={t("binding.dialog.first")}
        description={t("binding.dialog.order", { first: labelA, second: labelB })}
        value={first}
        onChange={type(setFirst)}
        onKeyDown={goOn}
        data-autofocus
        data-testid="identifier-1"
        {...plain}
      />
      <TextInput
        ref={secondField}
        label={t("binding.dialog.second")}
        value={second}
        onChange={type(setSecond)}
        error={problem === "same" ? t("binding.dialog.same") : undefined}
        data-testid="identifier-2"
        {...plain}
      />
      <NativeSelect
        label={t("binding.dialog.length")}
        value={String(minutes)}
        onChange={(event) => setMinutes(Number(event.currentTarget.value))}
        data={LENGTHS_MIN.map((length) => ({
          value: String(length),
          label:
            length < 60
              ? t("binding.dialog.minutes", { count: length })
              : t("binding.dialog.hours", { count: length / 60 }),
        }))}
        data-testid="binding-length"
      />
      <Problem text={error} />
      <div className={styles.actions}>
        <Button
          type="submit"
          loading={busy}
          disabled={problem !== null || row.contradiction !== null}
          data-testid="bind-submit"
        >
          {t("binding.dialog.submit")}
        </Button>
      </div>
    </form>
  );
}

/** Said aloud by screen readers as soon as it is there. */
function Problem({ text }: { text: string | null }) {
  return (
    <div role="alert" className={styles.problem} hidden={text === null} data-testid="binding-problem">
      {text !== null && (
        <>
          <TriangleAlert className={styles.icon} aria-hidden="true" />
          <span>{text}</span>
        </>
      )}
    </div>
  );
}

type Run = (send: () => Promise<unknown>, onDone: () => void, onRefused?: () => void) => Promise<void>;

/** One command at a time, with what the server said to it. */
function useSending(): [busy: boolean, error: string | null, run: Run, clear: () => void] {
  const { t } = useTranslation();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const run: Run = async (send, onDone, onRefused) => {
    setBusy(true);
    setError(null);
    try {
      await send();
      onDone();
    } catch (problem) {
      if (problem instanceof RefusalError) {
        onRefused?.();
        setError(localized(problem));
      } else if (problem instanceof UnansweredError) setError(t("binding.dialog.unanswered"));
      else throw problem;
    } finally {
      setBusy(false);
    }
  };
  return [busy, error, run, () => setError(null)];
}
