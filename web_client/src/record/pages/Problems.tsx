/** What the patient has, and had. */
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import { newestFirst, type Term } from "../fhir";
import { type Problem, SEVERITY } from "../fhirClinical";
import styles from "../RecordPane.module.css";
import { usePane } from "../recordData";
import { Empty, full, key, Name, PageTitle, Ready, Row, Section, Tag, When } from "./parts";

export function ProblemsPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  return (
    <>
      <PageTitle page="problems" />
      <Ready of={data.problems}>
        {(problems) =>
          problems.length === 0 ? (
            <Empty text={t("record.problems.empty")} />
          ) : (
            <>
              <ProblemGroup
                title={t("record.problems.active")}
                problems={problems.filter((p) => p.current)}
                item={item}
              />
              <ProblemGroup
                title={t("record.problems.past")}
                problems={problems.filter((p) => !p.current)}
                item={item}
              />
            </>
          )
        }
      </Ready>
    </>
  );
}

function ProblemGroup({ title, problems, item }: { title: string; problems: readonly Problem[]; item: string }) {
  if (problems.length === 0) return null;
  return (
    <Section title={title} count={problems.length}>
      <ul className={styles.rows}>
        {newestFirst(problems, (problem) => problem.onset ?? problem.recorded).map((problem) => (
          <ProblemRow key={problem.id} problem={problem} open={problem.id === item} />
        ))}
      </ul>
    </Section>
  );
}

/** The three usual grades in the page's language; anything else as the record says it. */
function severityWord(severity: Term, t: TFunction): string {
  const grade = SEVERITY.find((one) => one === severity.en.toLowerCase());
  return grade === undefined ? full(severity) : t(`record.allergies.${grade}`);
}

/** When it began, as far as the record says; when it was written down is something else and is called so. */
function Begun({ problem: { onset, onsetText, recorded } }: { problem: Problem }) {
  const { t } = useTranslation();
  if (onset === null && onsetText !== "") {
    return (
      <span className={styles.when}>
        {t("record.problems.onset")} {onsetText}
      </span>
    );
  }
  if (onset === null && recorded !== null) {
    return <span className={styles.when}>{t("record.recorded", { date: recorded.text.slice(0, 10) })}</span>;
  }
  return <When at={onset} label={t("record.problems.onset")} />;
}

export function ProblemRow({ problem, open = false }: { problem: Problem; open?: boolean }) {
  const { t } = useTranslation();
  const wrong = problem.verification === "entered-in-error" || problem.verification === "refuted";
  const certain = problem.verification === null || problem.verification === "confirmed";
  return (
    <Row page="problems" tone={open ? "ok" : "plain"}>
      <div className={styles.rowMain}>
        <Name term={problem.name} struck={wrong} />
        {problem.note !== "" && <p className={styles.note}>{problem.note}</p>}
      </div>
      <div className={styles.rowSide}>
        <span className={styles.tags}>
          {problem.severity !== null && <Tag>{severityWord(problem.severity, t)}</Tag>}
          {!certain && <Tag tone="warn">{t(`record.verification.${key(problem.verification ?? "")}`)}</Tag>}
          {problem.status !== "active" && <Tag>{t(`record.clinicalStatus.${problem.status}`)}</Tag>}
          {problem.code !== "" && <span className={styles.code}>{problem.code}</span>}
        </span>
        <span className={styles.whenPair}>
          <Begun problem={problem} />
          {problem.ended !== null && <When at={problem.ended} label={t("record.problems.ended")} />}
        </span>
      </div>
    </Row>
  );
}
