/** Gateways: which hospital is connected, since when, how fast; enrolling a new one. */
import { Button } from "@mantine/core";
import { KeyRound, Plus, ServerOff } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { EmptyState, Loading } from "../common/states";
import styles from "./Admin.module.css";
import { PageHead, Refused } from "./AdminPage";
import { type Gateway, gatewayPath, type LockOverview } from "./api";
import { EnrolDialog } from "./EnrolDialog";
import { useLockOverview } from "./queries";
import { durationText, OFFSET_BAD_US, offsetText, timeText } from "./words";

export function GatewaysPage() {
  const { t } = useTranslation();
  const overview = useLockOverview();
  const [isEnrolling, setEnrolling] = useState(false);
  return (
    <>
      <PageHead title={t("admin.gateways.title")} lead={t("admin.gateways.lead")}>
        <Button
          leftSection={<Plus size={18} aria-hidden="true" />}
          disabled={overview.data === undefined}
          onClick={() => setEnrolling(true)}
          data-testid="btn-enrol"
        >
          {t("admin.enrol.open")}
        </Button>
      </PageHead>
      {overview.data !== undefined ? (
        <>
          <Lists overview={overview.data} />
          {isEnrolling && <EnrolDialog overview={overview.data} onClose={() => setEnrolling(false)} />}
        </>
      ) : overview.isError ? (
        <Refused error={overview.error} retry={() => void overview.refetch()} />
      ) : (
        <Loading />
      )}
    </>
  );
}

function Lists({ overview }: { overview: LockOverview }) {
  const { t } = useTranslation();
  const present = overview.gateways.filter(({ revokedAtMs }) => revokedAtMs === null);
  const revoked = overview.gateways.filter(({ revokedAtMs }) => revokedAtMs !== null);
  return (
    <>
      <Codes overview={overview} />
      {present.length === 0 ? (
        <EmptyState icon={ServerOff} title={t("admin.gateways.empty")} body={t("admin.gateways.emptyBody")} />
      ) : (
        <ul className={styles.cards} data-testid="gateways">
          {present.map((one) => (
            <Card key={one.id} gateway={one} />
          ))}
        </ul>
      )}
      {revoked.length > 0 && (
        <section>
          <h2 className={styles.groupTitle}>{t("admin.gateways.revoked")}</h2>
          <ul className={styles.cards}>
            {revoked.map((one) => (
              <Card key={one.id} gateway={one} />
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

/** Codes that were made and not used yet: names only, the code was shown once. */
function Codes({ overview }: { overview: LockOverview }) {
  const { t } = useTranslation();
  if (overview.codes.length === 0) return null;
  return (
    <ul className={styles.codes} data-testid="waiting-codes">
      {overview.codes.map((one) => (
        <li key={one.id} className={styles.waiting}>
          <KeyRound size={17} aria-hidden="true" />
          {t("admin.enrol.waiting", { name: one.name, hospital: one.hospital, until: timeText(one.expiresAtMs) })}
        </li>
      ))}
    </ul>
  );
}

export function State({ gateway }: { gateway: Gateway }) {
  const { t } = useTranslation();
  const state = gateway.revokedAtMs !== null ? "revoked" : gateway.isConnected ? "connected" : "away";
  return (
    <span className={styles.state} data-state={state} data-testid="gateway-state">
      {t(`admin.state.${state}`)}
    </span>
  );
}

/** Since when it is there, or was seen last. */
export function useSince(gateway: Gateway): string {
  const { t } = useTranslation();
  if (gateway.revokedAtMs !== null) return t("admin.since.revoked", { when: timeText(gateway.revokedAtMs) });
  if (gateway.isConnected) return t("admin.since.connected", { when: timeText(gateway.connectedAtMs) });
  if (gateway.seenAtMs === null) return t("admin.since.never", { when: timeText(gateway.enrolledAtMs) });
  return t("admin.since.away", { when: timeText(gateway.seenAtMs) });
}

function Card({ gateway }: { gateway: Gateway }) {
  const since = useSince(gateway);
  return (
    <li className={styles.card} data-testid={`gateway-${gateway.id}`}>
      <div className={styles.cardHead}>
        <h3 className={styles.name}>
          <Link className={styles.nameLink} href={gatewayPath(gateway.id)}>
            {gateway.name}
          </Link>
        </h3>
        <State gateway={gateway} />
        <p className={styles.where}>
          {gateway.hospital} · {since}
        </p>
      </div>
      {gateway.revokedAtMs === null && <Figures gateway={gateway} />}
    </li>
  );
}

export function Figures({ gateway }: { gateway: Gateway }) {
  const { t } = useTranslation();
  const { last } = gateway;
  const isOff = gateway.offsetUs !== null && Math.abs(gateway.offsetUs) > OFFSET_BAD_US;
  return (
    <dl className={styles.figures}>
      <Figure
        label={t("admin.figure.last")}
        text={last === null ? t("admin.figure.none") : last.kind || t("admin.crossing.state.lost")}
        more={last === null ? "" : timeText(last.atMs)}
      />
      <Figure label={t("admin.figure.queue")} text={String(gateway.waiting)} more={t("admin.figure.queueMore")} />
      <Figure
        label={t("admin.figure.crossing")}
        text={durationText(gateway.crossingP50Us)}
        more={t("admin.figure.p99", { value: durationText(gateway.crossingP99Us) })}
      />
      <Figure
        label={t("admin.figure.read")}
        text={durationText(gateway.readP50Us)}
        more={t("admin.figure.p99", { value: durationText(gateway.readP99Us) })}
      />
      <Figure
        label={t("admin.figure.clock")}
        text={offsetText(gateway.offsetUs)}
        more={isOff ? t("admin.figure.clockBad") : t("admin.figure.clockMore")}
        isBad={isOff}
      />
      <Figure
        label={t("admin.figure.software")}
        text={gateway.software || "–"}
        more={t("admin.figure.received", { count: gateway.received })}
      />
    </dl>
  );
}

function Figure({ label, text, more, isBad = false }: { label: string; text: string; more: string; isBad?: boolean }) {
  return (
    <div className={styles.figure} data-bad={isBad}>
      <dt>{label}</dt>
      <dd className={styles.figureText}>{text}</dd>
      <dd className={styles.figureMore}>{more}</dd>
    </div>
  );
}
