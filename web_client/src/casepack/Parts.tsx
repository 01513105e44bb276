/** What a specialty wants to see, part by part: there, out of date or missing; one click asks the hospital for it. */
import { Button } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { ApiError } from "../common/http";
import { localized } from "../i18n";
import type { CaseAsk, Finding, LockCode } from "./api";
import styles from "./CasePack.module.css";
import { FindingWords } from "./PackContent";
import { useAsk } from "./queries";
import { dateText, whenText } from "./words";

export interface PartsProps {
  place: {
    consult: string;
    patient: string;
    /** Name of the hospital that is asked. */
    partner: string;
  };
  specialty: string;
  findings: readonly Finding[];
  asks: readonly CaseAsk[];
}

const AGAIN: readonly LockCode[] = ["unavailable", "timed_out", "busy", "cancelled"];

export function Parts({ place, specialty, findings, asks }: PartsProps) {
  const { t } = useTranslation();
  const ask = useAsk(place.consult, place.patient, specialty);
  return (
    <>
      <ul className={styles.findings} data-testid="casepack-findings">
        {findings.map((one) => {
          // Newest first: what became of the last time.
          const latest = asks.find(({ part }) => part === one.part);
          const isWaiting = latest?.status === "asked";
          // The gateway may be there again; people who are asked are not asked twice.
          const mayRetry = isWaiting && latest.lock !== null && AGAIN.includes(latest.lock);
          const mayAsk = one.state !== "present" && one.fact === null && (!isWaiting || mayRetry);
          return (
            <li key={one.part} className={styles.finding} data-testid={`casepack-part-${one.part}`}>
              <span className={styles.findingWhat}>
                <span className={styles.state} data-state={one.state}>
                  {t(`casepack.state.${one.state}`)}
                </span>{" "}
                <FindingWords finding={one} />
                {latest !== undefined && <Asked ask={latest} />}
              </span>
              {mayAsk && (
                <Button
                  size="xs"
                  variant="default"
                  loading={ask.isPending && ask.variables === one.part}
                  disabled={ask.isPending}
                  onClick={() => ask.mutate(one.part)}
                  aria-label={t("casepack.askLabel", { hospital: place.partner, part: localized(one) })}
                  data-testid={`casepack-ask-${one.part}`}
                >
                  {mayRetry ? t("casepack.askAgain") : t("casepack.ask", { hospital: place.partner })}
                </Button>
              )}
            </li>
          );
        })}
      </ul>
      {ask.data !== undefined && ask.data.came.length > 0 && (
        <div role="status" data-testid="casepack-came">
          <p>{t("casepack.came", { count: ask.data.came.length })}</p>
          <ul>
            {ask.data.came.map((one) => (
              <li key={`${one.title} ${one.atMs} ${one.value}`}>
                {[one.title, one.value, one.unit, dateText(one)].filter((part) => part !== "").join(" ")}
              </li>
            ))}
          </ul>
        </div>
      )}
      {ask.error instanceof ApiError && (
        <p className={styles.problem} role="alert" data-testid="casepack-ask-problem">
          {localized(ask.error)}
        </p>
      )}
    </>
  );
}

/** Who asked, when, what became of it, and for whom it waits. */
function Asked({ ask }: { ask: CaseAsk }) {
  const { t } = useTranslation();
  const closed = { when: whenText(ask.closedAtMs), reason: ask.reason };
  const isWaiting = ask.status === "asked";
  return (
    <span className={styles.trend} data-testid={`casepack-asked-${ask.part}`} data-status={ask.status}>
      {t("casepack.asked.asked", { by: ask.by, when: whenText(ask.askedAtMs) })}
      {ask.status === "declined" && ` · ${t("casepack.asked.declined", closed)}`}
      {ask.status === "answered" &&
        ` · ${t(ask.throughLock ? "casepack.asked.throughLock" : "casepack.asked.answered", closed)}`}
      {isWaiting && ask.lock !== null && ` · ${t(`casepack.lock.${ask.lock}`)}`}
      {isWaiting &&
        (ask.reaches > 0 ? (
          ` · ${t("casepack.asked.waits", { hospital: ask.hospital, count: ask.reaches })}`
        ) : (
          <strong className={styles.nobody}> · {t("casepack.asked.nobody", { hospital: ask.hospital })}</strong>
        ))}
    </span>
  );
}
