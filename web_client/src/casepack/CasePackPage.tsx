/** `/casepack/{consult}`: read the pack of one of the consult's patients, or prepare it. The patient is not in the address (G8). */
import { Button, NativeSelect } from "@mantine/core";
import { ArrowLeft, TriangleAlert } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type { ConsultCard, Person } from "../common/api";
import { useConsult } from "../common/queries";
import { EmptyState, ErrorState, Loading } from "../common/states";
import { localized } from "../i18n";
import { Identity } from "../record/PatientBanner";
import { type Overview, packPath, type SentPack } from "./api";
import styles from "./CasePack.module.css";
import { Lines, Missing, RequestText } from "./PackContent";
import { Parts, type PartsProps } from "./Parts";
import { Prepare } from "./Prepare";
import { useOverview, useSentPack } from "./queries";
import { gaps, whenText } from "./words";

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
        <Read
          // A newer version is shown at once: who reads on in the old one would not know of it.
          key={sent.version}
          place={{ consult: consult.id, patient: patient.id, partner: consult.partner }}
          newest={sent.version}
          newsMs={sent.newsMs}
        />
      ) : (
        <Prepare
          consult={consult.id}
          patient={patient.id}
          partner={consult.partner}
          specialties={overview.specialties}
          maySend={person.role === "doctor"}
        />
      )}
    </>
  );
}

interface ReadProps {
  place: PartsProps["place"];
  newest: number;
  newsMs: number | null;
}

function Read({ place, newest, newsMs }: ReadProps) {
  const { t } = useTranslation();
  const [version, setVersion] = useState(newest);
  const pack = useSentPack(place.consult, place.patient, version, newsMs);
  if (pack.data === undefined) {
    return pack.isError ? <ErrorState error={pack.error} onRetry={() => void pack.refetch()} /> : <Loading />;
  }
  const { data } = pack;
  const hrefOf = (binary: string): string =>
    packPath(place.consult, place.patient, `/binary/${encodeURIComponent(binary)}?v=${data.version}`);
  const came = data.asks.filter((ask) => ask.came.length > 0);
  return (
    <div className={styles.columns} data-testid="casepack-read">
      <div className={styles.page}>
        <Lacking place={place} pack={data} />
        {came.length > 0 && (
          <section className={styles.card} data-testid="casepack-answers">
            <h2 className={styles.heading}>{t("casepack.answers")}</h2>
            {came.map((ask) => (
              <div key={ask.id}>
                <p className={styles.soft}>{localized(ask)}</p>
                <Lines lines={ask.came} hrefOf={hrefOf} plain />
              </div>
            ))}
          </section>
        )}
        <section className={styles.card}>
          <RequestText request={data.request} findings={data.findings} />
        </section>
        <div className={styles.soft}>
          {t("casepack.version", { version: data.version, when: whenText(data.sentAtMs) })} · {data.by} ·{" "}
          {data.hospital}
          <br />
          <span className={styles.hash}>{t("casepack.fingerprint", { hash: data.sha256 })}</span>
          {newest > 1 && (
            <NativeSelect
              label={t("casepack.versions")}
              value={String(version)}
              data={Array.from({ length: newest }, (_one, index) => String(newest - index))}
              onChange={(event) => setVersion(Number(event.currentTarget.value))}
              data-testid="casepack-version"
            />
          )}
        </div>
      </div>
      <section className={styles.card}>
        {data.version < newest && (
          <p className={styles.problem} role="alert">
            {t("casepack.older", { version: data.version, newest })}
          </p>
        )}
        <Lines lines={data.lines} hrefOf={hrefOf} />
      </section>
    </div>
  );
}

/** What the reader must know to be missing by now, and can ask for. */
function Lacking({ place, pack }: { place: PartsProps["place"]; pack: SentPack }) {
  const { t } = useTranslation();
  const lacking = gaps(pack.findings);
  if (lacking.length === 0) return <Missing findings={pack.findings} />;
  return (
    <section className={styles.missing} aria-label={t("casepack.missing")} data-testid="casepack-missing">
      <h2 className={styles.missingTitle}>
        <TriangleAlert size={18} aria-hidden="true" /> {t("casepack.missing")}
      </h2>
      <Parts place={place} specialty={pack.specialty} findings={lacking} asks={pack.asks} />
    </section>
  );
}
