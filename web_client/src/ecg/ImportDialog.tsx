/** Bring an ECG file of the open patient into the consult; whose it is, is confirmed by the person who sends it (W20). */
import { Button, Modal, Switch, TextInput } from "@mantine/core";
import { CircleAlert } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError, useHttp } from "../common/http";
import { list, obj, str } from "../common/read";
import { localized } from "../i18n";
import type { PatientBanner } from "../protocol";
import { Identity } from "../record/PatientBanner";
import { type ArchiveContext, type Imported, importFile, MAX_IMPORT_MB, type RecordedStream } from "./api";
import styles from "./ImportDialog.module.css";

export interface ImportDialogProps {
  readonly context: ArchiveContext;
  readonly patient: PatientBanner;
  readonly opened: boolean;
  readonly onClose: () => void;
  readonly onImported: () => void;
  /** Put it beside the current ECG. */
  readonly onShow: (stream: RecordedStream) => void;
}

export function ImportDialog({ opened, onClose, ...rest }: ImportDialogProps) {
  const { t } = useTranslation();
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title={t("ecg.import.title")}
      centered
      closeButtonProps={{ "aria-label": t("ecg.tools.close") }}
    >
      {opened && <ImportForm {...rest} />}
    </Modal>
  );
}

const ENDINGS = ".dcm,.zip,.edf,.bdf,.scp,.xml,.json,application/dicom";
const MAX_TITLE = 80;

type FormProps = Omit<ImportDialogProps, "opened" | "onClose">;

function ImportForm({ context, patient, onImported, onShow }: FormProps) {
  const { t } = useTranslation();
  const http = useHttp();
  const [file, setFile] = useState<File | null>(null);
  const [title, setTitle] = useState("");
  const [isConfirmed, setConfirmed] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const [differing, setDiffering] = useState<readonly string[] | null>(null);
  const [imported, setImported] = useState<Imported | null>(null);

  const take = (chosen: File | null): void => {
    const isTooLarge = chosen !== null && chosen.size > MAX_IMPORT_MB * 2 ** 20;
    setProblem(isTooLarge ? t("ecg.import.tooLarge", { mb: MAX_IMPORT_MB }) : null);
    setFile(isTooLarge ? null : chosen);
    // Another file must be compared anew.
    setDiffering(null);
    setConfirmed(false);
  };
  const send = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    if (file === null) return;
    setBusy(true);
    setProblem(null);
    try {
      const asked = { file, patient: patient.id, title: title.trim(), isChecked: differing !== null };
      setImported(await importFile(http, context, asked));
      onImported();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code === "patient_differs" && differing === null) {
        setDiffering(list(obj(error.details).reported).map(str));
        setConfirmed(false);
      } else setProblem(localized(error));
    } finally {
      setBusy(false);
    }
  };
  if (imported !== null) return <Done imported={imported} onShow={onShow} />;
  return (
    <form className={styles.form} onSubmit={(event) => void send(event)} data-testid="ecg-import-form">
      <div className={styles.who}>
        <Identity patient={patient} />
      </div>
      <label className={styles.file}>
        <span>{t("ecg.import.file")}</span>
        <input
          type="file"
          accept={ENDINGS}
          required
          onChange={(event) => take(event.currentTarget.files?.[0] ?? null)}
          data-testid="ecg-import-file"
        />
        <small>{t("ecg.import.fileHint", { mb: MAX_IMPORT_MB })}</small>
      </label>
      <TextInput
        label={t("ecg.import.name")}
        value={title}
        maxLength={MAX_TITLE}
        onChange={(event) => setTitle(event.currentTarget.value)}
        autoComplete="off"
      />
      {differing !== null && <Differs reported={differing} patient={patient} />}
      <Switch
        label={differing === null ? t("ecg.import.confirm", { name: patient.name }) : t("ecg.import.differsConfirm")}
        checked={isConfirmed}
        onChange={(event) => setConfirmed(event.currentTarget.checked)}
        data-testid="ecg-import-confirm"
      />
      {problem !== null && (
        <p className={styles.problem} role="alert" data-testid="ecg-import-problem">
          <CircleAlert aria-hidden="true" />
          <span>
            <strong>{t("ecg.import.failed")}</strong> {problem}
          </span>
        </p>
      )}
      {isBusy && (
        <p className={styles.soft} role="status">
          {t("ecg.import.sending")}
        </p>
      )}
      <div className={styles.actions}>
        <Button
          type="submit"
          loading={isBusy}
          disabled={file === null || !isConfirmed}
          {...(differing === null ? {} : { color: "red" })}
          data-testid="ecg-import-send"
        >
          {t(differing === null ? "ecg.import.send" : "ecg.import.differsSend")}
        </Button>
      </div>
    </form>
  );
}

/** (W22) Both in red, side by side, before anything is taken. */
function Differs({ reported, patient }: { reported: readonly string[]; patient: PatientBanner }) {
  const { t } = useTranslation();
  return (
    <div role="alert" data-testid="ecg-import-differs">
      <dl className={styles.differs}>
        <dt>{t("ecg.import.differs")}</dt>
        <dd>{reported.join(", ")}</dd>
        <dt>{t("ecg.import.differsOpen")}</dt>
        <dd>{patient.identifiers.map(({ label, value }) => `${label} ${value}`).join(", ")}</dd>
      </dl>
    </div>
  );
}

function Done({ imported, onShow }: { imported: Imported; onShow: (stream: RecordedStream) => void }) {
  const { t } = useTranslation();
  const [first] = imported.streams;
  return (
    <div className={styles.form} data-testid="ecg-imported" role="status">
      {imported.streams.map(({ id, title, stream }) => (
        <strong key={id}>{t("ecg.import.done", { title: title === "" ? stream.device : title })}</strong>
      ))}
      {imported.leftOut > 0 && <p className={styles.soft}>{t("ecg.import.leftOut", { count: imported.leftOut })}</p>}
      {imported.notices.length > 0 && (
        <div className={styles.soft}>
          {t("ecg.import.notices")}
          <ul>
            {imported.notices.map((notice) => (
              <li key={`${notice.code} ${notice.detail}`}>
                {localized(notice)}
                {notice.detail !== "" && ` (${notice.detail})`}
              </li>
            ))}
          </ul>
        </div>
      )}
      {first !== undefined && (
        <div className={styles.actions}>
          <Button onClick={() => onShow(first)}>{t("ecg.import.show")}</Button>
        </div>
      )}
    </div>
  );
}
