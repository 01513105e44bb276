/** `/casepack/{consult}`: read the pack of one of the consult's patients, or prepare it. The patient is not in the address (G8). */
import { Button } from "@mantine/core";
import { ArrowLeft } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type { ConsultCard, Person } from "../common/api";
import { useConsult } from "../common/queries";
import { EmptyState, ErrorState, Loading } from "../common/states";
import { Identity } from "../record/PatientBanner";
import { type Overview, packPath } from "./api";
import styles from "./CasePack.module.css";
import { Lines, Missing, RequestText } from "./PackContent";
import { Prepare } from "./Prepare";
import { useOverview, useSentPack } from "./queries";
import { whenText } from "./words";

export default function CasePackPage({ consultId, person }: { consultId: string; person: Person }) {
  const consult = useConsult(consultId);
  const overview = useOverview();
  const error = consult.error ?? overview.error;
  if (consult.data === undefined || overview.data === undefined) {
    return error === null ? <Loading /> : <ErrorState error={error} />;
  }
  return <Pack consult={consult.data} overview={overview.data} person={person} />;
}

function Pack({ consult, overview, person }: { consult: ConsultCard; overview: Overview; person: Person }) {
  const { t } = useTranslation();
  const [chosen, setChosen] = useState(consult.patients[0]?.id ?? "");
  const patient = consult.patients.find(({ id }) => id === chosen);
  return (
    <div className={styles.page} data-testid="casepack-page">
      <header>
        <Link className={styles.back} href="/">
          <ArrowLeft size={18} aria-hidden="true" /> {t("casepack.back")}
        </Link>
        <h1 className={styles.title}>
          {t("casepack.title")} · {consult.title}
        </h1>
      </header>
      {consult.patients.length > 1 && (
        <fieldset className={styles.patients} aria-label={t("casepack.patient")}>
          {consult.patients.map(({ id, name }) => (
            <Button
              key={id}
              variant={id === chosen ? "filled" : "default"}
              aria-pressed={id === chosen}
              onClick={() => setChosen(id)}
            >
              {name}
            </Button>
          ))}
        </fieldset>
      )}
      {patient === undefined ? (
        <EmptyState title={t("home.consults.noPatients")} />
      ) : (
        // Another patient: nothing of the one before stays on the page (W23).
        <OfPatient key={patient.id} consult={consult} patient={patient} overview={overview} person={person} />
      )}
    </div>
  );
}

interface OfPatientProps {
  consult: ConsultCard;
  patient: ConsultCard["patients"][number];
  overview: Overview;
  person: Person;
}

function OfPatient({ consult, patient, overview, person }: OfPatientProps) {
  const { t } = useTranslation();
  const sent = overview.packs.find((pack) => pack.consult === consult.id && pack.patient === patient.id);
  const [mode, setMode] = useState<"read" | "prepare" | null>(null);
  const shown = sent === undefined ? "prepare" : (mode ?? "read");
  return (
    <>
      <div className={styles.card}>
        <Identity patient={patient} />
      </div>
      {sent !== undefined && (
        <fieldset className={styles.modes} aria-label={t("casepack.modes")}>
          {(["read", "prepare"] as const).map((one) => (
            <Button
              key={one}
              variant={one === shown ? "filled" : "default"}
              aria-pressed={one === shown}
              onClick={() => setMode(one)}
              data-testid={`casepack-mode-${one}`}
            >
              {t(`casepack.${one}`)}
            </Button>
          ))}
        </fieldset>
      )}
      {shown === "read" && sent !== undefined ? (
        <Read key={sent.version} consult={consult.id} patient={patient.id} version={sent.version} />
      ) : (
        <Prepare
          consult={consult.id}
          patient={patient.id}
          specialties={overview.specialties}
          maySend={person.role === "doctor"}
        />
      )}
    </>
  );
}

function Read({ consult, patient, version }: { consult: string; patient: string; version: number }) {
  const { t } = useTranslation();
  const pack = useSentPack(consult, patient, version);
  if (pack.data === undefined) {
    return pack.isError ? <ErrorState error={pack.error} onRetry={() => void pack.refetch()} /> : <Loading />;
  }
  const { data } = pack;
  const hrefOf = (binary: string): string =>
    packPath(consult, patient, `/binary/${encodeURIComponent(binary)}?v=${data.version}`);
  return (
    <div className={styles.columns} data-testid="casepack-read">
      <div className={styles.page}>
        <Missing findings={data.findings} />
        <section className={styles.card}>
          <RequestText request={data.request} findings={data.findings} />
        </section>
        <p className={styles.soft}>
          {t("casepack.version", { version: data.version, when: whenText(data.sentAtMs) })}
          <br />
          <span className={styles.hash}>{t("casepack.fingerprint", { hash: data.sha256 })}</span>
        </p>
      </div>
      <section className={styles.card}>
        <Lines lines={data.lines} hrefOf={hrefOf} />
      </section>
    </div>
  );
}
