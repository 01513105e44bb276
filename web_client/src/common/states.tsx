/** Loading, empty and failed, in one look for every page. */
import { Button } from "@mantine/core";
import { CircleAlert, Inbox, type LucideIcon } from "lucide-react";
import { Component, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { localized } from "../i18n";
import { ApiError } from "./http";
import styles from "./states.module.css";

/** Appears after a moment only: a flash of "Loading" on every click is noise. */
export function Loading({ label }: { label?: string }) {
  const { t } = useTranslation();
  return (
    <div className={styles.loading} role="status">
      <span className={styles.pulse} aria-hidden="true" />
      {label ?? t("common.loading")}
    </div>
  );
}

export interface EmptyStateProps {
  title: string;
  body?: string;
  icon?: LucideIcon;
  /** The state is the whole page: its title is the page's. */
  page?: boolean;
  children?: ReactNode;
}

export function EmptyState({ title, body, icon: Icon = Inbox, page = false, children }: EmptyStateProps) {
  const Title = page ? "h1" : "h2";
  return (
    <div className={styles.state}>
      <Icon aria-hidden="true" className={styles.icon} strokeWidth={1.5} />
      <Title className={styles.title}>{title}</Title>
      {body !== undefined && <p className={styles.body}>{body}</p>}
      {children}
    </div>
  );
}

export interface ErrorStateProps {
  error: unknown;
  title?: string;
  /** The state is the whole page: its title is the page's. */
  page?: boolean;
  onRetry?: () => void;
}

/** What failed, in the person's language, with a code to read out on the phone. */
export function ErrorState({ error, title, page = false, onRetry }: ErrorStateProps) {
  const Title = page ? "h1" : "h2";
  const { t } = useTranslation();
  const known = error instanceof ApiError ? error : null;
  return (
    <div className={styles.state} role="alert">
      <CircleAlert aria-hidden="true" className={styles.iconDanger} strokeWidth={1.5} />
      <Title className={styles.title}>{title ?? t("common.errorTitle")}</Title>
      {known !== null && <p className={styles.body}>{localized(known)}</p>}
      {known !== null && <p className={styles.code}>{t("common.errorCode", { code: known.code })}</p>}
      {onRetry !== undefined && (
        <Button variant="default" onClick={onRetry}>
          {t("common.retry")}
        </Button>
      )}
    </div>
  );
}

/** A page that fails to render says so instead of turning white. */
export class PageBoundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override render(): ReactNode {
    return this.state.failed ? <PageFailed /> : this.props.children;
  }
}

function PageFailed() {
  const { t } = useTranslation();
  return (
    <main className={styles.state} role="alert">
      <CircleAlert aria-hidden="true" className={styles.iconDanger} strokeWidth={1.5} />
      <h1 className={styles.title}>{t("common.unexpectedTitle")}</h1>
      <p className={styles.body}>{t("common.unexpectedBody")}</p>
      <Button onClick={() => window.location.reload()}>{t("common.reload")}</Button>
    </main>
  );
}
