/**
 * Opening another patient on every screen: choose, compare the identity, and only then open (W18, W24).
 */
import { Button, Loader, Modal } from "@mantine/core";
import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useHttp } from "../common/http";
import { obj, objs } from "../common/read";
import { readBanner } from "../record/banner";
import { Identity } from "../record/PatientBanner";
import type { PatientBanner } from "../record/types";
import styles from "./Dialogs.module.css";

export interface PatientDialogProps {
  consultId: string;
  opened: boolean;
  /** Id of the open patient. */
  current: string | null;
  onClose: () => void;
  onOpen: (patient: string) => void;
  onCloseContext: () => void;
}

const readPatients = (body: unknown): readonly PatientBanner[] =>
  objs(obj(body).patients).flatMap((patient) => readBanner(patient) ?? []);

type Patients = UseQueryResult<readonly PatientBanner[]>;

export function PatientDialog(props: PatientDialogProps) {
  const { t } = useTranslation();
  const http = useHttp();
  const { consultId, opened } = props;
  // Asked for while the dialog is still closed: in the consult nobody should wait for a list of three names.
  const patients = useQuery({
    queryKey: ["consults", consultId, "patients"],
    queryFn: ({ signal }) =>
      http.get(`/api/consults/${encodeURIComponent(consultId)}/patients`, readPatients, { signal }),
  });
  return (
    <Modal
      closeButtonProps={{ "aria-label": t("desk.device.dismiss") }}
      opened={opened}
      onClose={props.onClose}
      title={t("desk.patient.title")}
      centered
      size="lg"
    >
      {opened && <Steps {...props} patients={patients} />}
    </Modal>
  );
}

function Steps(props: PatientDialogProps & { patients: Patients }) {
  const [chosen, setChosen] = useState<PatientBanner | null>(null);
  if (chosen !== null) return <Confirm {...props} patient={chosen} onBack={() => setChosen(null)} />;
  return <Choose {...props} onChoose={setChosen} />;
}

interface ChooseProps extends PatientDialogProps {
  patients: Patients;
  onChoose: (patient: PatientBanner) => void;
}

function Choose({ patients, current, onChoose, onCloseContext }: ChooseProps) {
  const { t } = useTranslation();
  const { refetch } = patients;
  useEffect(() => {
    void refetch();
  }, [refetch]);
  if (patients.isPending) {
    return (
      <p className={styles.waiting} role="status">
        <Loader size="sm" aria-hidden="true" /> {t("desk.patient.loading")}
      </p>
    );
  }
  if (patients.isError) {
    return (
      <div className={styles.form} role="alert">
        <p className={styles.intro}>{t("desk.patient.failed")}</p>
        <Button onClick={() => void patients.refetch()}>{t("desk.patient.retry")}</Button>
      </div>
    );
  }
  return (
    <div className={styles.form}>
      <p className={styles.intro}>{patients.data.length === 0 ? t("desk.patient.none") : t("desk.patient.intro")}</p>
      <ul className={styles.choices} aria-label={t("desk.patient.choose")}>
        {patients.data.map((patient) => (
          <li key={patient.id}>
            <button
              type="button"
              className={styles.choice}
              data-testid={`patient-choice-${patient.id}`}
              disabled={patient.id === current}
              onClick={() => onChoose(patient)}
            >
              <Identity patient={patient} />
              {patient.id === current && <span className={styles.current}>{t("desk.patient.current")}</span>}
            </button>
          </li>
        ))}
      </ul>
      {current !== null && (
        <div className={styles.aside}>
          <span>{t("desk.patient.closing")}</span>
          <Button variant="default" onClick={onCloseContext} data-testid="patient-close">
            {t("desk.patient.close")}
          </Button>
        </div>
      )}
    </div>
  );
}

function Confirm({ patient, onBack, onOpen }: PatientDialogProps & { patient: PatientBanner; onBack: () => void }) {
  const { t } = useTranslation();
  return (
    <div className={styles.form}>
      <p className={styles.intro}>{t("desk.patient.verify")}</p>
      <div className={styles.verify}>
        <Identity patient={patient} />
      </div>
      <p className={styles.intro}>{t("desk.patient.intro")}</p>
      <div className={styles.actions}>
        <Button variant="default" onClick={onBack}>
          {t("desk.patient.back")}
        </Button>
        <Button onClick={() => onOpen(patient.id)} data-testid="patient-confirm" data-autofocus>
          {t("desk.patient.open")}
        </Button>
      </div>
    </div>
  );
}
