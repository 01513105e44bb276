/** Pairing a screen with its code, and unpairing it. */
import { Alert, Button, Modal, TextInput } from "@mantine/core";
import { Activity, CircleAlert, FileText, Video } from "lucide-react";
import { type SubmitEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { SCREEN_ROLES, type ScreenRole } from "../common/api";
import { ApiError } from "../common/http";
import { localized } from "../i18n";
import { CODE_LENGTH, cleanCode, type ScreenPlace, useClaim, useUnpair, usualRole } from "./pairing";
import styles from "./StationPage.module.css";

interface DialogProps {
  place: ScreenPlace;
  onClose: () => void;
  onDone: () => void;
}

const ICONS = { record: FileText, video: Video, ecg: Activity } as const satisfies Record<ScreenRole, unknown>;

export function ClaimDialog({ place, code: given, onClose, onDone }: DialogProps & { code: string }) {
  const { t } = useTranslation();
  const [code, setCode] = useState(given);
  const [role, setRole] = useState(usualRole(place.screen));
  const [short, setShort] = useState(false);
  const claim = useClaim(onDone);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    setShort(code.length !== CODE_LENGTH);
    if (code.length === CODE_LENGTH) claim.mutate({ place, code, role });
  };
  const wrong = claim.error instanceof ApiError && claim.error.code === "code_invalid";
  const codeError = short ? t("station.dialog.codeShort") : wrong ? t("station.dialog.invalid") : null;
  return (
    <Modal
      opened
      onClose={onClose}
      centered
      size="md"
      title={t("station.dialog.title", { station: place.station.name, number: place.screen.number })}
      closeButtonProps={{ "aria-label": t("common.close") }}
    >
      <form className={styles.form} onSubmit={submit} noValidate>
        {claim.error !== null && !wrong && <Refused error={claim.error} />}
        <TextInput
          label={t("station.dialog.code")}
          description={t("station.dialog.codeHint")}
          error={codeError}
          size="lg"
          data-autofocus
          data-testid="pairing-code-input"
          autoComplete="off"
          autoCapitalize="characters"
          spellCheck={false}
          classNames={{ input: styles.code ?? "" }}
          value={code}
          onChange={(event) => setCode(cleanCode(event.currentTarget.value))}
        />
        <RoleChoice role={role} onChange={setRole} />
        <div className={styles.dialogActions}>
          <Button variant="default" onClick={onClose}>
            {t("common.cancel")}
          </Button>
          <Button type="submit" disabled={claim.isPending} data-testid="btn-claim">
            {claim.isPending ? t("station.dialog.submitting") : t("station.dialog.submit")}
          </Button>
        </div>
      </form>
    </Modal>
  );
}

function RoleChoice({ role, onChange }: { role: ScreenRole; onChange: (role: ScreenRole) => void }) {
  const { t } = useTranslation();
  return (
    <fieldset className={styles.roles}>
      <legend className={styles.legend}>{t("station.dialog.role")}</legend>
      {SCREEN_ROLES.map((one) => {
        const Icon = ICONS[one];
        return (
          <label key={one} className={styles.role} data-testid={`role-${one}`}>
            <input
              type="radio"
              name="role"
              value={one}
              checked={one === role}
              onChange={() => onChange(one)}
              className={styles.radio}
            />
            <Icon size={24} strokeWidth={1.6} aria-hidden="true" />
            <span>
              <span className={styles.roleName}>{t(`station.role.${one}`)}</span>
              <span className={styles.roleHint}>{t(`station.roleHint.${one}`)}</span>
            </span>
          </label>
        );
      })}
    </fieldset>
  );
}

export function UnpairDialog({ place, onClose, onDone }: DialogProps) {
  const { t } = useTranslation();
  const unpair = useUnpair(onDone);
  return (
    <Modal
      opened
      onClose={onClose}
      centered
      title={t("station.unpairDialog.title", { station: place.station.name, number: place.screen.number })}
      closeButtonProps={{ "aria-label": t("common.close") }}
    >
      {unpair.error !== null && <Refused error={unpair.error} />}
      <p className={styles.dialogText}>{t("station.unpairDialog.body")}</p>
      {place.station.consult !== null && <p className={styles.dialogWarn}>{t("station.unpairDialog.inConsult")}</p>}
      <div className={styles.dialogActions}>
        <Button variant="default" onClick={onClose} data-autofocus>
          {t("common.cancel")}
        </Button>
        <Button
          color="red"
          disabled={unpair.isPending}
          onClick={() => unpair.mutate(place)}
          data-testid="btn-unpair-confirm"
        >
          {t("station.unpairDialog.submit")}
        </Button>
      </div>
    </Modal>
  );
}

function Refused({ error }: { error: unknown }) {
  return (
    <Alert color="red" variant="outline" role="alert" icon={<CircleAlert aria-hidden="true" />}>
      {error instanceof ApiError ? localized(error) : String(error)}
    </Alert>
  );
}
