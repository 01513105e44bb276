/** What a pack holds, section by section, and what it lacks; the same look when it is prepared and when it is read. */
import { CircleCheck, FileText, TriangleAlert } from "lucide-react";
import { Fragment } from "react";
import { Trans, useTranslation } from "react-i18next";
import { cutLanguages } from "../record/fhir";
import { type Finding, type PackLine, type PackRequest, REQUEST_FIELDS, SECTIONS } from "./api";
import styles from "./CasePack.module.css";
import { dateText, findingText, gaps, trendText, valueText, whenText } from "./words";

/** A plain list of what is missing; that nothing is, is said too. */
export function Missing({ findings, asked = [] }: { findings: readonly Finding[]; asked?: readonly string[] }) {
  const { t } = useTranslation();
  const lacking = gaps(findings);
  if (lacking.length === 0) {
    return (
      <p className={styles.complete}>
        <CircleCheck size={18} aria-hidden="true" /> {t("casepack.complete")}
      </p>
    );
  }
  return (
    <section className={styles.missing} aria-label={t("casepack.missing")} data-testid="casepack-missing">
      <p className={styles.missingTitle}>
        <TriangleAlert size={18} aria-hidden="true" /> {t("casepack.missing")}
      </p>
      <ul>
        {lacking.map((one) => (
          <li key={one.part} data-state={one.state}>
            <FindingWords finding={one} />
            {asked.includes(one.part) && <span className={styles.soft}> · {t("casepack.asking")}</span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** "12-lead ECG within 24 h: too old (2026-11-21 08:05)": no line ends within the date. */
export function FindingWords({ finding }: { finding: Finding }) {
  const { t } = useTranslation();
  return (
    <>
      {findingText(t, finding)}
      {finding.atMs !== null && (
        <Trans
          i18nKey="casepack.at"
          values={{ when: dateText(finding) }}
          components={{ date: <span className={styles.oneRow} /> }}
        />
      )}
    </>
  );
}

/** The request as it was sent (C25). */
export function RequestText({ request, findings }: { request: PackRequest; findings: readonly Finding[] }) {
  const { t, i18n } = useTranslation();
  const facts = findings.filter(({ fact, part }) => fact !== null && (request.facts[part] ?? "") !== "");
  return (
    <section className={styles.section}>
      <h2 className={styles.heading}>{t("casepack.request")}</h2>
      <dl className={styles.request}>
        {REQUEST_FIELDS.filter((field) => request[field] !== "").map((field) => (
          <div key={field}>
            <dt>{t(`casepack.field.${field}`)}</dt>
            <dd>{request[field]}</dd>
          </div>
        ))}
        {facts.map((one) => (
          <div key={one.part}>
            <dt>{i18n.language === "zh-CN" ? one.zh : one.en}</dt>
            <dd>
              {one.fact === "time" ? whenText(Date.parse(request.facts[one.part] ?? "")) : request.facts[one.part]}
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

/** States that a line must say: what is over, not sure or not final looks like what is now otherwise. */
const TOLD = [
  "resolved",
  "inactive",
  "remission",
  "completed",
  "stopped",
  "on-hold",
  "unknown",
  "preliminary",
  "partial",
  "amended",
  "corrected",
] as const;

export interface LinesProps {
  lines: readonly PackLine[];
  /** Address of an attachment's bytes; null while nothing was sent. */
  hrefOf?: (binary: string) => string;
  /** For preparing: what is taken out, and changing it. */
  leftOut?: readonly string[];
  onToggle?: (ref: string) => void;
  /** Without sections. */
  plain?: boolean;
}

export function Lines(props: LinesProps) {
  const { t } = useTranslation();
  if (props.plain === true) {
    return (
      <ul className={styles.lines}>
        {props.lines.map((line) => (
          <Line key={line.ref} line={line} {...props} />
        ))}
      </ul>
    );
  }
  if (props.lines.length === 0) return <p className={styles.soft}>{t("casepack.nothing")}</p>;
  return SECTIONS.map((section) => {
    const lines = props.lines.filter((line) => line.section === section);
    if (lines.length === 0) return null;
    return (
      <section className={styles.section} key={section} aria-label={t(`casepack.section.${section}`)}>
        <h2 className={styles.heading}>{t(`casepack.section.${section}`)}</h2>
        <ul className={styles.lines}>
          {lines.map((line) => (
            <Line key={line.ref} line={line} {...props} />
          ))}
        </ul>
      </section>
    );
  });
}

/** In the page's language, with the other one small beside it; as written where it is not clearly written twice. */
function Title({ text }: { text: string }) {
  const { i18n } = useTranslation();
  const halves = cutLanguages(text);
  if (halves === null) return text;
  const [main, other] = i18n.language === "zh-CN" ? [halves.zh, halves.en] : [halves.en, halves.zh];
  return (
    <>
      {main} <span className={styles.otherName}>{other}</span>
    </>
  );
}

function Line({ line, hrefOf, leftOut, onToggle }: LinesProps & { line: PackLine }) {
  const { t } = useTranslation();
  const former = line.trend.slice(1);
  const told = TOLD.find((status) => status === line.status);
  return (
    <li className={styles.line} data-testid={`casepack-line-${line.ref}`}>
      {onToggle !== undefined && (
        <input
          type="checkbox"
          checked={leftOut?.includes(line.ref) !== true}
          onChange={() => onToggle(line.ref)}
          aria-label={t("casepack.include", { title: line.title })}
        />
      )}
      <span className={styles.lineTitle}>
        <Title text={line.title} />
        {told !== undefined && <em className={styles.status}> · {t(`casepack.status.${told}`)}</em>}
        {line.since !== "" && (
          <strong className={styles.since} data-since={line.since}>
            {" "}
            · {t(`casepack.since.${line.since}`)}
          </strong>
        )}
      </span>
      <span className={styles.value}>
        {valueText(line)}
        {line.flag !== "" && line.flag !== "N" && <strong className={styles.flag}>{line.flag}</strong>}
        {former.length > 0 && (
          <span className={styles.trend}>
            {t("casepack.trend")}
            {former.map((one, index) => (
              <Fragment key={index}>
                {index > 0 && " ← "}
                <span className={styles.oneRow}>{trendText(one, line.unit)}</span>
              </Fragment>
            ))}
          </span>
        )}
        {line.attachments.map(({ binary, title }) =>
          hrefOf === undefined ? null : (
            <a key={binary} className={styles.attachment} href={hrefOf(binary)} target="_blank" rel="noreferrer">
              <FileText size={16} aria-hidden="true" /> {title === "" ? line.title : title}
            </a>
          ),
        )}
      </span>
      <span className={styles.when}>{dateText(line)}</span>
    </li>
  );
}
