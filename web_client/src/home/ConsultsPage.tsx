/** My consults: what is open now first, then by time. */
import { Building2, CalendarOff, DoorOpen, UserRoundX, Users } from "lucide-react";
import { useTranslation } from "react-i18next";
import { HomeAsks } from "../casepack/HomeAsks";
import { ConsultPacks } from "../casepack/PackLine";
import type { ConsultCard, Person } from "../common/api";
import { useConsults } from "../common/queries";
import { EmptyState, ErrorState, Loading } from "../common/states";
import { Identity } from "../record/PatientBanner";
import styles from "./ConsultsPage.module.css";
import { clockText, dayText, groupConsults } from "./consults";
import { consultPath } from "./routes";

export function ConsultsPage({ person }: { person: Person }) {
  const { t } = useTranslation();
  const consults = useConsults();
  return (
    <>
      <header className={styles.head}>
        <h1 className={styles.title}>{t("home.consults.title")}</h1>
        <p className={styles.sub}>
          {t("home.consults.greeting", { name: person.name, hospital: person.hospital.name })}
          {consults.data !== undefined && (
            <span className={styles.live}>
              {t("home.consults.liveCount", { count: consults.data.filter((one) => one.status === "open").length })}
            </span>
          )}
        </p>
      </header>
      {consults.data !== undefined ? (
        <>
          <HomeAsks consults={consults.data} />
          <ConsultLists consults={consults.data} />
        </>
      ) : consults.isError ? (
        <ErrorState error={consults.error} onRetry={() => void consults.refetch()} />
      ) : (
        <Loading />
      )}
    </>
  );
}

function ConsultLists({ consults }: { consults: readonly ConsultCard[] }) {
  const { t } = useTranslation();
  const { today, others } = groupConsults(consults, new Date());
  if (today.length === 0 && others.length === 0) {
    return <EmptyState icon={CalendarOff} title={t("home.consults.empty")} body={t("home.consults.emptyBody")} />;
  }
  return (
    <>
      <List title={t("home.consults.today")} consults={today} />
      <List title={t("home.consults.other")} consults={others} withDay />
    </>
  );
}

function List(props: { title: string; consults: readonly ConsultCard[]; withDay?: boolean }) {
  if (props.consults.length === 0) return null;
  return (
    <section className={styles.group} aria-label={props.title}>
      <h2 className={styles.groupTitle}>{props.title}</h2>
      <ul className={styles.list}>
        {props.consults.map((consult) => (
          <Card key={consult.id} consult={consult} withDay={props.withDay ?? false} />
        ))}
      </ul>
    </section>
  );
}

function Card({ consult, withDay }: { consult: ConsultCard; withDay: boolean }) {
  const { t } = useTranslation();
  const { id, title, status, startsAtMs } = consult;
  return (
    <li className={styles.card} data-status={status} data-testid={`consult-${id}`}>
      <p className={styles.time}>
        <span className={styles.clock}>{clockText(startsAtMs)}</span>
        {withDay && <span className={styles.day}>{dayText(startsAtMs)}</span>}
      </p>
      <div className={styles.what}>
        <h3 className={styles.name}>
          {title} <Status status={status} />
        </h3>
        <ul className={styles.facts}>
          <Fact icon={DoorOpen} label={t("home.consults.room")} text={consult.room} />
          <Fact
            icon={Building2}
            label={t("home.consults.between")}
            text={[consult.hub, consult.partner].filter((place) => place !== "").join(" ↔ ")}
          />
        </ul>
        <Patients consult={consult} />
        {status !== "ended" && <ConsultPacks consult={id} patients={consult.patients} />}
      </div>
      <div className={styles.action}>
        <JoinButton consult={consult} />
        {status === "open" && (
          <p className={styles.present}>
            <Users size={16} aria-hidden="true" /> {t("home.consults.participants", { count: consult.participants })}
          </p>
        )}
      </div>
    </li>
  );
}

function Status({ status }: { status: ConsultCard["status"] }) {
  const { t } = useTranslation();
  return (
    <span className={styles.status} data-status={status}>
      {t(`home.consults.${status}`)}
    </span>
  );
}

function Fact({ icon: Icon, label, text }: { icon: typeof Users; label: string; text: string }) {
  if (text === "") return null;
  return (
    <li className={styles.fact}>
      <Icon size={17} aria-hidden="true" />
      {label !== "" && <span className="visually-hidden">{label}: </span>}
      {text}
    </li>
  );
}

function Patients({ consult }: { consult: ConsultCard }) {
  const { t } = useTranslation();
  if (consult.patients.length === 0) {
    return (
      <p className={styles.noPatients}>
        <UserRoundX size={17} aria-hidden="true" /> {t("home.consults.noPatients")}
      </p>
    );
  }
  return (
    <ul className={styles.patients} aria-label={t("home.consults.patients", { count: consult.patients.length })}>
      {consult.patients.map((patient) => (
        <li key={patient.id} className={styles.patient}>
          <Identity patient={patient} />
        </li>
      ))}
    </ul>
  );
}

function JoinButton({ consult }: { consult: ConsultCard }) {
  const { t } = useTranslation();
  if (consult.status !== "open") {
    const text = consult.status === "ended" ? t("home.consults.over") : t("home.consults.notOpenYet");
    return <p className={styles.closed}>{text}</p>;
  }
  return (
    <a
      className={styles.join}
      href={consultPath(consult.id)}
      data-testid={`btn-join-${consult.id}`}
      aria-label={t("home.consults.joinLabel", { title: consult.title })}
    >
      {t("home.consults.join")}
    </a>
  );
}
