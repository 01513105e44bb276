/** What crossed and what was asked, newest first, with filters; ids, codes, sizes and times, nothing of a patient. */
import { Button, NativeSelect, SegmentedControl, TextInput } from "@mantine/core";
import { ArrowDownToLine, ArrowUpFromLine, ListX } from "lucide-react";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { EmptyState, ErrorState, Loading } from "../common/states";
import styles from "./Admin.module.css";
import type { Crossing, LogPage, Question } from "./api";
import { codeText } from "./codes";
import { type LogFilter, useCrossings, useQuestions } from "./queries";
import { durationText, localMs, numberText, sizeText, stampText } from "./words";

const EVERYTHING: LogFilter = { direction: "out", kind: "", outcome: "", fromMs: null, toMs: null };

export function CrossingsLog({ gateway }: { gateway: string }) {
  const { t } = useTranslation();
  const [filter, setFilter] = useState(EVERYTHING);
  const log = useCrossings(gateway, filter);
  const heads = ["time", "number", "kind", "outcome", "size", "took"] as const;
  return (
    <section className={`${styles.card} ${styles.log}`}>
      <SegmentedControl
        fullWidth
        className={styles.direction ?? ""}
        value={filter.direction}
        onChange={(direction) => setFilter({ ...filter, direction: direction === "in" ? "in" : "out" })}
        aria-label={t("admin.filter.direction")}
        data={[
          {
            value: "out",
            label: <Direction icon={<ArrowUpFromLine size={16} aria-hidden="true" />} text={t("admin.filter.out")} />,
          },
          {
            value: "in",
            label: <Direction icon={<ArrowDownToLine size={16} aria-hidden="true" />} text={t("admin.filter.in")} />,
          },
        ]}
      />
      <Filters filter={filter} onChange={setFilter} kindHint="ORU^R01" />
      <Rows
        log={log}
        name="crossings"
        heads={heads.map((head) => t(`admin.column.${head}`))}
        row={(one: Crossing) => [
          stampText(one.atMs),
          numberText(one),
          one.kind === "" ? "–" : one.kind,
          <Outcome key="outcome" isOk={one.state !== "refused" && one.state !== "lost"}>
            {t(`admin.crossing.state.${one.state}`)}
            {one.code !== "" && ` · ${codeText(t, one.code)}`}
          </Outcome>,
          sizeText(one.sizeBytes),
          durationText(one.tookUs),
        ]}
      />
    </section>
  );
}

export function QuestionsLog({ gateway }: { gateway: string }) {
  const { t } = useTranslation();
  const [filter, setFilter] = useState(EVERYTHING);
  const log = useQuestions(gateway, filter);
  const heads = ["time", "kind", "who", "consult", "outcome", "took"] as const;
  return (
    <section className={`${styles.card} ${styles.log}`}>
      <Filters filter={filter} onChange={setFilter} kindHint="Observation" />
      <Rows
        log={log}
        name="questions"
        heads={heads.map((head) => t(`admin.column.${head}`))}
        row={(one: Question) => [
          stampText(one.atMs),
          one.kind,
          one.actor.replace(/^person:/, ""),
          one.consult,
          <Outcome key="outcome" isOk={one.code === ""}>
            {one.code === ""
              ? t("admin.question.answered", { count: one.count, size: sizeText(one.sizeBytes) })
              : codeText(t, one.code)}
          </Outcome>,
          durationText(one.tookUs),
        ]}
      />
    </section>
  );
}

function Direction({ icon, text }: { icon: ReactNode; text: string }) {
  return (
    <span className={styles.directionText}>
      {icon}
      {text}
    </span>
  );
}

function Outcome({ isOk, children }: { isOk: boolean; children: ReactNode }) {
  return (
    <span className={styles.outcome} data-ok={isOk}>
      {children}
    </span>
  );
}

interface FiltersProps {
  filter: LogFilter;
  onChange: (filter: LogFilter) => void;
  kindHint: string;
}

function Filters({ filter, onChange, kindHint }: FiltersProps) {
  const { t } = useTranslation();
  const outcomes = (["", "ok", "not_ok"] as const).map((value) => ({
    value,
    label: t(value === "" ? "admin.filter.every" : `admin.filter.${value}`),
  }));
  return (
    <div className={styles.filters}>
      <TextInput
        label={t("admin.column.kind")}
        placeholder={kindHint}
        value={filter.kind}
        maxLength={64}
        onChange={(event) => onChange({ ...filter, kind: event.currentTarget.value.trim() })}
        data-testid="filter-kind"
      />
      <NativeSelect
        label={t("admin.column.outcome")}
        value={filter.outcome}
        data={outcomes}
        onChange={(event) => {
          const wanted = event.currentTarget.value;
          onChange({ ...filter, outcome: wanted === "ok" || wanted === "not_ok" ? wanted : "" });
        }}
        data-testid="filter-outcome"
      />
      <Moment label={t("admin.filter.from")} onChange={(fromMs) => onChange({ ...filter, fromMs })} />
      <Moment label={t("admin.filter.to")} onChange={(toMs) => onChange({ ...filter, toMs })} />
    </div>
  );
}

function Moment({ label, onChange }: { label: string; onChange: (ms: number | null) => void }) {
  const [text, setText] = useState("");
  return (
    <TextInput
      type="datetime-local"
      label={label}
      value={text}
      onChange={(event) => {
        setText(event.currentTarget.value);
        onChange(localMs(event.currentTarget.value));
      }}
    />
  );
}

interface Log<Row> {
  data: { pages: readonly LogPage<Row>[] } | undefined;
  isError: boolean;
  error: unknown;
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  fetchNextPage: () => unknown;
  refetch: () => unknown;
}

interface RowsProps<Row> {
  log: Log<Row>;
  name: string;
  heads: readonly string[];
  row: (one: Row) => readonly ReactNode[];
}

function Rows<Row extends { id: number }>({ log, name, heads, row }: RowsProps<Row>) {
  const { t } = useTranslation();
  if (log.data === undefined) {
    return log.isError ? <ErrorState error={log.error} onRetry={() => void log.refetch()} /> : <Loading />;
  }
  const rows = log.data.pages.flatMap((page) => page.rows);
  return (
    <>
      {rows.length === 0 && !log.hasNextPage ? (
        <EmptyState icon={ListX} title={t("admin.filter.nothing")} />
      ) : (
        <table className={styles.table} data-testid={`log-${name}`}>
          <thead>
            <tr>
              {heads.map((head) => (
                <th key={head} scope="col">
                  {head}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((one) => (
              <tr key={one.id}>
                {row(one).map((cell, index) => (
                  // Columns do not move: their place is their name.
                  <td key={heads[index]} data-label={heads[index]}>
                    {cell}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {log.hasNextPage && (
        <Button
          variant="default"
          loading={log.isFetchingNextPage}
          onClick={() => void log.fetchNextPage()}
          data-testid="log-older"
        >
          {t("admin.filter.older")}
        </Button>
      )}
    </>
  );
}
