/** Programs that may ask for the record by SMART: which there are, registering one, closing one. */
import { Button, Modal, NativeSelect, Textarea, TextInput } from "@mantine/core";
import { Plus, Puzzle } from "lucide-react";
import { type SubmitEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { EmptyState, Loading } from "../common/states";
import styles from "./Admin.module.css";
import { PageHead, Refused } from "./AdminPage";
import { PROGRAM_KINDS, type Program, type ProgramKind } from "./api";
import { ConfirmDialog } from "./ConfirmDialog";
import { Problem } from "./EnrolDialog";
import { lackingOf, registrationOf, type Written } from "./program";
import { useCloseProgram, useLockOverview, usePrograms, useRegister } from "./queries";

export function ProgramsPage() {
  const { t } = useTranslation();
  const programs = usePrograms();
  const [isAdding, setAdding] = useState(false);
  const [closing, setClosing] = useState<Program | null>(null);
  return (
    <>
      <PageHead title={t("admin.programs.title")} lead={t("admin.programs.lead")}>
        <Button
          leftSection={<Plus size={18} aria-hidden="true" />}
          disabled={programs.data === undefined}
          onClick={() => setAdding(true)}
          data-testid="btn-register"
        >
          {t("admin.programs.register")}
        </Button>
      </PageHead>
      {programs.data !== undefined ? (
        <List programs={programs.data} onClose={setClosing} />
      ) : programs.isError ? (
        <Refused error={programs.error} retry={() => void programs.refetch()} />
      ) : (
        <Loading />
      )}
      {isAdding && <RegisterDialog onClose={() => setAdding(false)} />}
      {closing !== null && <CloseDialog program={closing} onClose={() => setClosing(null)} />}
    </>
  );
}

function List({ programs, onClose }: { programs: readonly Program[]; onClose: (program: Program) => void }) {
  const { t } = useTranslation();
  if (programs.length === 0) {
    return <EmptyState icon={Puzzle} title={t("admin.programs.empty")} body={t("admin.programs.emptyBody")} />;
  }
  return (
    <ul className={styles.cards} data-testid="programs">
      {programs.map((one) => (
        <li key={one.id} className={styles.card} data-testid={`program-${one.id}`}>
          <div className={styles.cardHead}>
            <h2 className={styles.name}>{one.name}</h2>
            <span className={styles.state} data-state={one.isActive ? "connected" : "revoked"}>
              {t(one.isActive ? "admin.programs.active" : "admin.programs.closed")}
            </span>
            {one.isActive && (
              <Button
                className={`${styles.cardAction} ${styles.danger}`}
                size="xs"
                variant="default"
                onClick={() => onClose(one)}
                aria-label={t("admin.programs.closeLabel", { name: one.name })}
                data-testid={`btn-close-${one.id}`}
              >
                {t("admin.programs.close")}
              </Button>
            )}
            <p className={styles.where}>
              {t(`admin.programs.kind.${one.kind}`)} · <code>{one.id}</code>
            </p>
          </div>
          <dl className={styles.facts}>
            <div>
              <dt>{t("admin.programs.scopes")}</dt>
              <dd className={styles.mono}>{one.scopes}</dd>
            </div>
            {one.redirectUris.length > 0 && (
              <div>
                <dt>{t("admin.programs.redirects")}</dt>
                <dd className={styles.mono}>{one.redirectUris.join(" ")}</dd>
              </div>
            )}
          </dl>
        </li>
      ))}
    </ul>
  );
}

const EMPTY: Written = {
  id: "",
  name: "",
  kind: "public",
  scopes: "",
  redirects: "",
  launch: "",
  jwks: "",
  hospital: "",
};

function RegisterDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation();
  const register = useRegister();
  const hospitals = useLockOverview().data?.hospitals ?? [];
  const [written, setWritten] = useState(EMPTY);
  const [wasTried, setTried] = useState(false);
  const chosen = { ...written, hospital: written.hospital || (hospitals[0]?.id ?? "") };
  const lacking = lackingOf(chosen);
  const change = (part: Partial<Written>): void => setWritten({ ...written, ...part });
  const errorOf = (field: (typeof lacking)[number]): string | null =>
    wasTried && lacking.includes(field) ? t(`admin.programs.lacks.${field}`) : null;
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    setTried(true);
    if (lacking.length === 0) register.mutate(registrationOf(chosen), { onSuccess: onClose });
  };
  return (
    <Modal
      opened
      onClose={onClose}
      centered
      size="lg"
      title={t("admin.programs.register")}
      closeButtonProps={{ "aria-label": t("common.close") }}
    >
      <form className={styles.form} onSubmit={submit} noValidate>
        {register.error !== null && <Problem error={register.error} />}
        <TextInput
          label={t("admin.programs.name")}
          value={written.name}
          maxLength={200}
          error={errorOf("name")}
          data-autofocus
          onChange={(event) => change({ name: event.currentTarget.value })}
          data-testid="program-name"
        />
        <TextInput
          label={t("admin.programs.id")}
          description={t("admin.programs.idHint")}
          value={written.id}
          maxLength={64}
          error={errorOf("id")}
          autoComplete="off"
          spellCheck={false}
          onChange={(event) => change({ id: event.currentTarget.value })}
          data-testid="program-id"
        />
        <NativeSelect
          label={t("admin.programs.kindLabel")}
          value={written.kind}
          data={PROGRAM_KINDS.map((kind) => ({ value: kind, label: t(`admin.programs.kind.${kind}`) }))}
          onChange={(event) => change({ kind: event.currentTarget.value as ProgramKind })}
          data-testid="program-kind"
        />
        <TextInput
          label={t("admin.programs.scopes")}
          description={t(written.kind === "backend" ? "admin.programs.scopesSystem" : "admin.programs.scopesHint")}
          value={written.scopes}
          error={errorOf("scopes")}
          spellCheck={false}
          onChange={(event) => change({ scopes: event.currentTarget.value })}
          data-testid="program-scopes"
        />
        {written.kind === "backend" ? (
          <NativeSelect
            label={t("admin.enrol.hospital")}
            value={chosen.hospital}
            data={hospitals.map((one) => ({ value: one.id, label: one.name }))}
            onChange={(event) => change({ hospital: event.currentTarget.value })}
          />
        ) : (
          <Textarea
            label={t("admin.programs.redirects")}
            description={t("admin.programs.redirectsHint")}
            value={written.redirects}
            error={errorOf("redirects")}
            rows={2}
            spellCheck={false}
            onChange={(event) => change({ redirects: event.currentTarget.value })}
            data-testid="program-redirects"
          />
        )}
        {written.kind !== "public" && (
          <Textarea
            label={t("admin.programs.jwks")}
            description={t("admin.programs.jwksHint")}
            value={written.jwks}
            error={errorOf("jwks")}
            rows={4}
            spellCheck={false}
            onChange={(event) => change({ jwks: event.currentTarget.value })}
          />
        )}
        <div className={styles.actions}>
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" loading={register.isPending} data-testid="program-submit">
            {t("admin.programs.submit")}
          </Button>
        </div>
      </form>
    </Modal>
  );
}

function CloseDialog({ program, onClose }: { program: Program; onClose: () => void }) {
  const { t } = useTranslation();
  const close = useCloseProgram();
  return (
    <ConfirmDialog
      title={t("admin.programs.closeTitle", { name: program.name })}
      action={t("admin.programs.close")}
      testId="btn-close-confirm"
      isBusy={close.isPending}
      error={close.error}
      onConfirm={() => close.mutate(program.id, { onSuccess: onClose })}
      onClose={onClose}
    >
      <p className={styles.step}>{t("admin.programs.closeBody")}</p>
    </ConfirmDialog>
  );
}
