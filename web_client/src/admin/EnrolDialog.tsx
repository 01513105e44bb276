/** A new gateway: for which hospital, the code that is shown once, what to type inside, and when it has come. */
import { Alert, Button, CopyButton, Modal, NativeSelect, TextInput } from "@mantine/core";
import { Check, CircleAlert, CircleCheck, Copy } from "lucide-react";
import { type SubmitEvent, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "../common/http";
import { localized } from "../i18n";
import styles from "./Admin.module.css";
import type { LockOverview, NewCode } from "./api";
import { useMakeCode } from "./queries";
import { enrolCommand } from "./words";

export interface EnrolDialogProps {
  overview: LockOverview;
  onClose: () => void;
}

export function EnrolDialog({ overview, onClose }: EnrolDialogProps) {
  const { t } = useTranslation();
  const make = useMakeCode();
  return (
    <Modal
      opened
      onClose={onClose}
      centered
      size="lg"
      title={t("admin.enrol.title")}
      // The code is shown once: a click beside the dialog must not lose it.
      closeOnClickOutside={make.data === undefined}
      closeButtonProps={{ "aria-label": t("common.close") }}
    >
      {make.data === undefined ? (
        <Ask overview={overview} make={make} onClose={onClose} />
      ) : (
        <Made overview={overview} made={make.data} onClose={onClose} />
      )}
    </Modal>
  );
}

function Ask({ overview, make, onClose }: EnrolDialogProps & { make: ReturnType<typeof useMakeCode> }) {
  const { t } = useTranslation();
  const [hospital, setHospital] = useState(overview.hospitals[0]?.id ?? "");
  const [name, setName] = useState("");
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (name.trim() !== "" && hospital !== "") make.mutate({ hospital, name: name.trim() });
  };
  return (
    <form className={styles.form} onSubmit={submit}>
      {make.error !== null && <Problem error={make.error} />}
      <NativeSelect
        label={t("admin.enrol.hospital")}
        value={hospital}
        data={overview.hospitals.map((one) => ({ value: one.id, label: one.name }))}
        onChange={(event) => setHospital(event.currentTarget.value)}
        data-testid="enrol-hospital"
      />
      <TextInput
        label={t("admin.enrol.name")}
        description={t("admin.enrol.nameHint")}
        value={name}
        maxLength={200}
        required
        data-autofocus
        onChange={(event) => setName(event.currentTarget.value)}
        data-testid="enrol-name"
      />
      <div className={styles.actions}>
        <Button variant="default" onClick={onClose}>
          {t("common.cancel")}
        </Button>
        <Button type="submit" loading={make.isPending} disabled={name.trim() === ""} data-testid="enrol-make">
          {t("admin.enrol.make")}
        </Button>
      </div>
    </form>
  );
}

function Made({ overview, made, onClose }: EnrolDialogProps & { made: NewCode }) {
  const { t } = useTranslation();
  const left = useLeft(made.expiresAtMs);
  // What was enrolled since this code was made: the list refreshes by itself.
  const [known] = useState(() => new Set(overview.gateways.map(({ id }) => id)));
  const isUsed = !overview.codes.some(({ id }) => id === made.id) && left !== null && left > 0;
  const came = isUsed ? overview.gateways.find(({ id }) => !known.has(id)) : undefined;
  if (came !== undefined) {
    return (
      <div className={styles.form}>
        <p className={styles.came} role="status" data-testid="enrol-came">
          <CircleCheck size={22} aria-hidden="true" />
          {t(came.isConnected ? "admin.enrol.connected" : "admin.enrol.enrolled", { name: came.name })}
        </p>
        <div className={styles.actions}>
          <Button onClick={onClose}>{t("common.close")}</Button>
        </div>
      </div>
    );
  }
  return (
    <div className={styles.form}>
      <p className={styles.step}>{t("admin.enrol.once")}</p>
      <p className={styles.code} data-testid="enrol-code">
        {made.code}
      </p>
      <p className={styles.expiry} data-over={left === 0} role={left === 0 ? "alert" : undefined}>
        {left === 0 ? t("admin.enrol.expired") : t("admin.enrol.left", { time: leftText(left) })}
      </p>
      <p className={styles.step}>{t("admin.enrol.command")}</p>
      <Command text={enrolCommand(window.location.origin, overview.hasAuthority)} />
      <p className={styles.hint}>{t("admin.enrol.typed")}</p>
      {overview.hasAuthority && (
        <p className={styles.hint}>
          {t("admin.enrol.authority")}{" "}
          <a className={styles.link} href="/trust" target="_blank" rel="noreferrer">
            {`${window.location.origin}/trust`}
          </a>
        </p>
      )}
      <p className={styles.hint}>{t("admin.enrol.outward")}</p>
      <div className={styles.actions}>
        <Button variant="default" onClick={onClose} data-testid="enrol-done">
          {t("admin.enrol.done")}
        </Button>
      </div>
    </div>
  );
}

/** A command to copy. */
export function Command({ text }: { text: string }) {
  const { t } = useTranslation();
  return (
    <div className={styles.command}>
      <code className={styles.commandText} data-testid="command">
        {text}
      </code>
      <CopyButton value={text}>
        {({ copied, copy }) => (
          <Button
            variant="default"
            size="xs"
            onClick={copy}
            leftSection={copied ? <Check size={15} aria-hidden="true" /> : <Copy size={15} aria-hidden="true" />}
          >
            {copied ? t("admin.copied") : t("admin.copy")}
          </Button>
        )}
      </CopyButton>
    </div>
  );
}

export function Problem({ error }: { error: unknown }) {
  const { t } = useTranslation();
  if (!(error instanceof ApiError)) return null;
  return (
    <Alert color="red" icon={<CircleAlert size={18} aria-hidden="true" />} role="alert" data-testid="admin-problem">
      {localized(error)} <span className={styles.errorCode}>{t("common.errorCode", { code: error.code })}</span>
    </Alert>
  );
}

/** Seconds until then, counted down; null where it never ends. */
function useLeft(untilMs: number | null): number | null {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return untilMs === null ? null : Math.max(0, Math.ceil((untilMs - now) / 1_000));
}

function leftText(left: number | null): string {
  if (left === null) return "";
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}
