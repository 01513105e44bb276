/** Results: one line per test with its latest value, and one test with its trend. */
import { FlaskConicalOff } from "lucide-react";
import { lazy, Suspense } from "react";
import { useTranslation } from "react-i18next";
import { groupResults, isCritical, isOutOfRange, type LabSeries, type LabValue, tokenOf } from "../fhirLabs";
import { entryOf } from "../place";
import styles from "../RecordPane.module.css";
import { type Loaded, usePane, useTestHistory } from "../recordData";
import {
  BackToList,
  Empty,
  Failed,
  full,
  key,
  Lines,
  Name,
  Notice,
  PageTitle,
  Ready,
  Section,
  Tag,
  When,
} from "./parts";
import { Sparkline } from "./Sparkline";

// The chart library is a third of the page's weight: it comes with the first trend.
const Trend = lazy(() => import("./Trend"));

export function LabsPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  const code = entryOf(item);
  if (code !== "") return <OneTest code={code} />;
  const isEmpty = [data.labs, data.results].every((of) => of.state === "ready" && of.entries.items.length === 0);
  return (
    <>
      <PageTitle page="labs" />
      {isEmpty && <Empty text={t("record.labs.empty")} />}
      <Ready of={data.labs} page="labs">
        {(values) => <TestTable title={t("record.labs.laboratory")} tests={groupResults(values)} />}
      </Ready>
      <Ready of={data.results} page="labs">
        {(values) => <TestTable title={t("record.labs.other")} tests={groupResults(values)} />}
      </Ready>
    </>
  );
}

export function TestTable({ title, tests }: { title: string; tests: readonly LabSeries[] }) {
  const { t } = useTranslation();
  if (tests.length === 0) return null;
  return (
    <Section title={title} count={tests.length}>
      <table className={styles.table}>
        <thead>
          <tr>
            <th scope="col">{t("record.labs.test")}</th>
            <th scope="col" className={styles.numeric}>
              {t("record.labs.result")}
            </th>
            <th scope="col">{t("record.labs.flag")}</th>
            <th scope="col" className={styles.wideOnly}>
              {t("record.labs.range")}
            </th>
            <th scope="col" className={styles.wideOnly}>
              {t("record.labs.taken")}
            </th>
            <th scope="col" className={styles.trendCell}>
              {t("record.labs.trend")}
            </th>
          </tr>
        </thead>
        <tbody>
          {tests.map((series) => (
            <TestRow key={series.code} series={series} />
          ))}
        </tbody>
      </table>
      <RatedHere values={tests.map(({ latest }) => latest)} />
    </Section>
  );
}

/** What the asterisk means, where one is. */
function RatedHere({ values }: { values: readonly (LabValue | null)[] }) {
  const { t } = useTranslation();
  if (!values.some((value) => value?.isRatedHere && isOutOfRange(value.flag))) return null;
  return <p className={styles.footnote}>{t("record.labs.ratedHere")}</p>;
}

/** A result that is not final, or was changed, says so. */
export function StatusOf({ value }: { value: LabValue }) {
  const { t } = useTranslation();
  if (value.status === "final") return null;
  return <Tag tone="warn">{t(`record.reportStatus.${key(value.status)}`)}</Tag>;
}

function TestRow({ series }: { series: LabSeries }) {
  const { t } = useTranslation();
  const { go, wall } = usePane();
  const { latest } = series;
  return (
    <tr data-flag={latest?.flag ?? "none"}>
      <th scope="row">
        {wall ? (
          <Name term={series.name} />
        ) : (
          <button
            type="button"
            className={styles.testButton}
            data-testid={`lab-${series.code}`}
            onClick={() => go("labs", series.code)}
          >
            <Name term={series.name} />
            <span className="visually-hidden"> {t("record.labs.openTest")}</span>
          </button>
        )}
        {latest !== null && (
          <span className={styles.narrowOnly}>
            {rangeOf(latest) || t("record.labs.noRange")} ·{" "}
            <span className={styles.oneLine}>{latest.at?.text ?? t("record.unknownDate")}</span>
          </span>
        )}
      </th>
      <td className={styles.numeric}>{latest === null ? "-" : <Result value={latest} />}</td>
      <td>
        {latest !== null && (
          <span className={styles.flagCell}>
            <FlagMark of={latest} /> <StatusOf value={latest} />
          </span>
        )}
      </td>
      <td className={`${styles.wideOnly} ${styles.range}`}>
        {latest === null ? "" : rangeOf(latest) || <span className={styles.soft}>{t("record.labs.noRange")}</span>}
      </td>
      <td className={styles.wideOnly}>{latest !== null && <When at={latest.at} />}</td>
      <td className={styles.trendCell}>
        <Sparkline series={series} />
      </td>
    </tr>
  );
}

const rangeOf = (value: LabValue): string => value.range?.text ?? "";

export function Result({ value }: { value: LabValue }) {
  return (
    <span className={styles.result} data-struck={value.void} data-out={isOutOfRange(value.flag)}>
      <strong>{full(value.text)}</strong> {value.unit !== "" && <span className={styles.unit}>{value.unit}</span>}
    </span>
  );
}

/**
 * Letters, an arrow and a word: the colour only repeats what they say. An asterisk marks arithmetic of ours; what the
 * laboratory said in other words stands as it said it.
 */
export function FlagMark({ of: { flag, isRatedHere, rating } }: { of: LabValue }) {
  const { t } = useTranslation();
  const isOut = isOutOfRange(flag);
  const tone = isCritical(flag) ? "critical" : isOut ? "out" : "normal";
  const word = flag === "none" && rating !== null ? full(rating) : t(`record.flag.${flag}`);
  const source = isRatedHere && isOut ? t("record.labs.byRange") : "";
  return (
    <span className={styles.flag} data-tone={tone} data-here={isRatedHere} title={`${word} ${source}`.trim()}>
      {(flag !== "none" || rating === null) && (
        <span aria-hidden="true">
          {t(`record.flagShort.${flag}`)}
          {source !== "" && "*"}
        </span>
      )}
      <span className={flag === "none" && rating !== null ? undefined : styles.flagWord}>{word}</span>
      {source !== "" && <span className="visually-hidden"> {source}</span>}
      {flag !== "none" && rating !== null && <span> {full(rating)}</span>}
    </span>
  );
}

/** One test with all its values: those of the list, and the older ones that the list has not. */
function OneTest({ code }: { code: string }) {
  const { data, context } = usePane();
  const lists = [data.labs, data.results];
  const isCut = lists.some((of) => of.state === "ready" && of.rest !== null);
  const history = useTestHistory(context, tokenOf(code), isCut);
  const loaded = [...lists, history].flatMap((of) => (of.state === "ready" ? of.entries.items : []));
  const byId = new Map(loaded.map((value) => [value.id, value]));
  const series = groupResults([...byId.values()]).find((one) => one.code === code);
  const failed = lists.find((of) => of.state === "error");
  if (series === undefined && failed?.state === "error") return <Failed error={failed.error} retry={failed.retry} />;
  if (series === undefined && (lists.some((of) => of.state === "loading") || (isCut && history.state === "loading"))) {
    return <Lines />;
  }
  return <TestView series={series} history={isCut ? history : null} />;
}

function TestView({ series, history }: { series: LabSeries | undefined; history: Loaded<LabValue> | null }) {
  const { t } = useTranslation();
  if (series === undefined) {
    return (
      <>
        <BackToList page="labs" />
        <Notice icon={FlaskConicalOff} title={t("record.notHere")} />
      </>
    );
  }
  return (
    <>
      <BackToList page="labs" />
      <header className={styles.pageHead}>
        <h2 className={styles.pageTitle}>
          <Name term={series.name} />
        </h2>
        {series.latest !== null && (
          <p className={styles.latest}>
            <Result value={series.latest} /> <FlagMark of={series.latest} /> <StatusOf value={series.latest} />
            <When at={series.latest.at} />
          </p>
        )}
      </header>
      <Drawn series={series} />
      <Section title={t("record.labs.history")} count={series.values.length}>
        <History values={series.values} />
      </Section>
      <RatedHere values={series.values} />
      {history !== null && <Ready of={history}>{() => null}</Ready>}
    </>
  );
}

export function Drawn({ series, second }: { series: LabSeries; second?: LabSeries | undefined }) {
  const { t } = useTranslation();
  const { drawn, otherUnits } = series;
  if (drawn.length < 2) {
    const reason = otherUnits.length > 0 ? t("record.labs.allUnitsDiffer") : t("record.labs.oneValue");
    return <p className={styles.soft}>{reason}</p>;
  }
  return (
    <>
      <Suspense fallback={<div className={styles.chartSpace} />}>
        <Trend series={series} second={second} />
      </Suspense>
      {otherUnits.length > 0 && (
        <p className={styles.unreadable}>
          {t("record.labs.mixedUnits", { units: otherUnits.join(t("common.listSeparator")) })}
        </p>
      )}
    </>
  );
}

function History({ values }: { values: readonly LabValue[] }) {
  const { t } = useTranslation();
  return (
    <table className={styles.table}>
      <thead>
        <tr>
          <th scope="col">{t("record.labs.taken")}</th>
          <th scope="col" className={styles.numeric}>
            {t("record.labs.result")}
          </th>
          <th scope="col">{t("record.labs.flag")}</th>
          <th scope="col">{t("record.labs.range")}</th>
        </tr>
      </thead>
      <tbody>
        {values.map((value) => (
          <tr key={value.id} data-flag={value.void ? "none" : value.flag}>
            <th scope="row">
              <When at={value.at} />
              {value.note !== "" && <p className={styles.note}>{value.note}</p>}
            </th>
            <td className={styles.numeric}>
              <Result value={value} />
            </td>
            <td>
              <span className={styles.flagCell}>
                {!value.void && <FlagMark of={value} />} <StatusOf value={value} />
              </span>
            </td>
            <td className={styles.range}>{rangeOf(value) || t("record.labs.noRange")}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
