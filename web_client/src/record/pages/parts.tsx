/** Pieces every page of the record is made of. */
import { Button } from "@mantine/core";
import { ChevronRight, CircleAlert, type LucideIcon, TriangleAlert } from "lucide-react";
import { type ReactNode, useEffect, useId } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "../../common/http";
import { currentLanguage, localized } from "../../i18n";
import type { Moment, Term } from "../fhir";
import { olderList } from "../place";
import styles from "../RecordPane.module.css";
import { type Loaded, type Rest, usePane } from "../recordData";
import type { Page } from "../types";

/** A term in the language of the page. */
export const word = (term: Term): string => localized(term);

/** The same in the other language, empty when it has only one: doctors of both sides must recognise it. */
export const otherWord = (term: Term): string => {
  const other = currentLanguage() === "zh-CN" ? term.en : term.zh;
  return other === word(term) ? "" : other;
};

/** A term in full, for places that show it once. */
export const full = (term: Term): string => term.whole ?? localized(term);

/** FHIR codes have hyphens, translation keys do not. */
export const key = (code: string): string => code.replaceAll("-", "_");

export function Notice(props: {
  icon: LucideIcon;
  title: string;
  body?: string;
  tone?: "danger";
  children?: ReactNode;
}) {
  const Icon = props.icon;
  return (
    <div
      className={styles.notice}
      data-tone={props.tone ?? "plain"}
      role={props.tone === "danger" ? "alert" : undefined}
    >
      <Icon aria-hidden="true" className={styles.noticeIcon} />
      <p className={styles.noticeTitle}>{props.title}</p>
      {props.body !== undefined && props.body !== "" && <p className={styles.noticeBody}>{props.body}</p>}
      {props.children}
    </div>
  );
}

/** Name of a page, with what belongs beside it. */
export function PageTitle({ page, children }: { page: Page; children?: ReactNode }) {
  const { t } = useTranslation();
  return (
    <header className={styles.pageHead}>
      <h2 className={styles.pageTitle}>{t(`record.page.${page}`)}</h2>
      {children}
    </header>
  );
}

export function Section(props: { title: string; count?: number; children: ReactNode; aside?: ReactNode }) {
  const id = useId();
  return (
    <section className={styles.section} aria-labelledby={id}>
      <div className={styles.sectionHead}>
        <h3 className={styles.sectionTitle} id={id}>
          {props.title}
          {props.count !== undefined && <span className={styles.count}>{props.count}</span>}
        </h3>
        {props.aside}
      </div>
      {props.children}
    </section>
  );
}

/** Loading, failed or loaded; what cannot be shown, and what is not there yet, is told and hides nothing. */
export function Ready<T>(props: {
  of: Loaded<T>;
  children: (items: readonly T[]) => ReactNode;
  quiet?: boolean;
  /** Whose list it is: there older entries can be had. */
  page?: Page | undefined;
  /** A list that shows only some of the newest anyway has nothing to say of older ones. */
  newestOnly?: boolean;
}) {
  const { of } = props;
  if (of.state === "loading") return <Lines />;
  if (of.state === "error") return <Failed error={of.error} retry={of.retry} />;
  return (
    <>
      {props.children(of.entries.items)}
      {props.quiet !== true && <Unreadable count={of.entries.unreadable.length} />}
      {props.quiet !== true && props.newestOnly !== true && of.rest !== null && (
        <RestLine rest={of.rest} read={of.read} total={of.total} page={props.page} />
      )}
    </>
  );
}

/** A list that does not reach back to the beginning says so, and how to get more. */
function RestLine(props: { rest: Rest; read: number; total: number; page: Page | undefined }) {
  const { t } = useTranslation();
  const { go, wall } = usePane();
  const { rest, read, total, page } = props;
  const said = t("record.rest.newest", { read: grouped(read), total: grouped(total) });
  return (
    <div className={styles.rest} data-testid="record-rest" role="status">
      <p>{rest.loading ? `${said} ${t("common.loading")}` : said}</p>
      {rest.error !== null && !wall && (
        <Button variant="default" size="compact-md" onClick={rest.more}>
          {t("common.retry")}
        </Button>
      )}
      {page !== undefined && !wall && rest.error === null && (
        <Button
          variant="default"
          size="compact-md"
          loading={rest.loading}
          data-testid="record-older"
          onClick={() => go(page, olderList(rest.pages))}
        >
          {t("record.rest.older")}
        </Button>
      )}
    </div>
  );
}

const grouped = (value: number): string => value.toLocaleString(currentLanguage());

/** An entry that the shared view names and that is not among the newest: read on until it is there. */
export function Sought<T>({ of, children }: { of: Loaded<T>; children: ReactNode }) {
  const rest = of.state === "ready" ? of.rest : null;
  const isSeeking = rest !== null && !rest.loading && rest.error === null;
  const more = rest?.more;
  // biome-ignore lint/correctness/useExhaustiveDependencies: each page that came without it asks for the next one.
  useEffect(() => {
    if (isSeeking) more?.();
  }, [isSeeking, rest?.pages]);
  return rest !== null && rest.error === null ? <Lines /> : children;
}

export function Unreadable({ count }: { count: number }) {
  const { t } = useTranslation();
  if (count === 0) return null;
  return (
    <p className={styles.unreadable} data-testid="record-unreadable">
      <TriangleAlert aria-hidden="true" className={styles.inlineIcon} />
      {t("record.cannotShow", { count })}
    </p>
  );
}

/** Over what was cancelled or entered in error: it can be read, and must not be relied on. */
export function Withdrawn() {
  const { t } = useTranslation();
  return (
    <p className={styles.withdrawn} role="alert" data-testid="record-withdrawn">
      <TriangleAlert aria-hidden="true" className={styles.inlineIcon} />
      {t("record.withdrawn")}
    </p>
  );
}

export function Lines() {
  const { t } = useTranslation();
  return (
    <div className={styles.lines} role="status" data-testid="record-loading">
      <span className="visually-hidden">{t("common.loading")}</span>
      <span className={styles.line} />
      <span className={styles.line} />
      <span className={styles.line} />
    </div>
  );
}

export function Failed({ error, retry }: { error: unknown; retry: () => void }) {
  const { t } = useTranslation();
  const { wall } = usePane();
  const changed = error instanceof ApiError && error.code === "context_changed";
  const title = changed ? t("record.changedElsewhere") : t("record.errorTitle");
  return (
    <Notice
      icon={CircleAlert}
      title={title}
      body={error instanceof ApiError && !changed ? localized(error) : ""}
      tone="danger"
    >
      {!wall && (
        <Button variant="default" size="compact-md" onClick={retry}>
          {t("common.retry")}
        </Button>
      )}
    </Notice>
  );
}

export function Empty({ text, body }: { text: string; body?: string }) {
  return (
    <div className={styles.empty}>
      <p className={styles.emptyTitle}>{text}</p>
      {body !== undefined && <p className={styles.emptyBody}>{body}</p>}
    </div>
  );
}

/** A name in the page's language with the other one small beside it. */
export function Name({ term, struck = false }: { term: Term; struck?: boolean }) {
  const other = otherWord(term);
  return (
    <span className={styles.nameBox} data-struck={struck}>
      <span className={styles.nameMain}>{word(term)}</span>
      {other !== "" && <span className={styles.nameOther}>{other}</span>}
    </span>
  );
}

export function When({ at, label, dayOnly = false }: { at: Moment | null; label?: string; dayOnly?: boolean }) {
  const { t } = useTranslation();
  return (
    <span className={styles.when}>
      {label !== undefined && <span className={styles.soft}>{label} </span>}
      {at === null ? (
        t("record.unknownDate")
      ) : (
        <time dateTime={at.text.replace(" ", "T")}>{dayOnly ? at.text.slice(0, 10) : at.text}</time>
      )}
    </span>
  );
}

export type Tone = "danger" | "warn" | "ok" | "plain";

/** A word in a box: its text says it, the colour only repeats it. */
export function Tag({ tone = "plain", children }: { tone?: Tone; children: ReactNode }) {
  return (
    <span className={styles.tag} data-tone={tone}>
      {children}
    </span>
  );
}

/** One entry of a list. With a target it opens; on a wall nothing opens. */
export function Row(props: { page: Page; item?: string; tone?: Tone; children: ReactNode; testId?: string }) {
  const { go, wall } = usePane();
  const { item } = props;
  const body =
    item === undefined || wall ? (
      <div className={styles.row} data-tone={props.tone ?? "plain"}>
        {props.children}
      </div>
    ) : (
      <button
        type="button"
        className={styles.row}
        data-tone={props.tone ?? "plain"}
        data-testid={props.testId}
        onClick={() => go(props.page, item)}
      >
        {props.children}
        <ChevronRight aria-hidden="true" className={styles.rowArrow} />
      </button>
    );
  return <li className={styles.rowBox}>{body}</li>;
}

/** The way to the whole page from an extract of it. */
export function More({ page, total, shown }: { page: Page; total: number; shown: number }) {
  const { t } = useTranslation();
  const { go, wall } = usePane();
  if (total <= shown) return null;
  const text = t("record.summary.more", { count: total });
  if (wall) return <p className={styles.more}>{text}</p>;
  return (
    <button type="button" className={styles.more} onClick={() => go(page)}>
      {text}
    </button>
  );
}

export function BackToList({ page }: { page: Page }) {
  const { t } = useTranslation();
  const { go, wall } = usePane();
  if (wall) return <p className={styles.crumb}>{t(`record.page.${page}`)}</p>;
  return (
    <button type="button" className={styles.backLink} onClick={() => go(page)}>
      ‹ {t("record.backToList")}
    </button>
  );
}
