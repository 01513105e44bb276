/** The administrator's pages under one head: gateways of hospitals, programs that may ask for the record. */
import { Building2, Puzzle } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link, Route, Switch, useLocation } from "wouter";
import { ApiError } from "../common/http";
import { ErrorState } from "../common/states";
import styles from "./Admin.module.css";
import { GatewayPage } from "./GatewayPage";
import { GatewaysPage } from "./GatewaysPage";
import { ProgramsPage } from "./ProgramsPage";

const PLACES = [
  { path: "/admin/gateways", label: "admin.nav.gateways", icon: Building2 },
  { path: "/admin/programs", label: "admin.nav.programs", icon: Puzzle },
] as const;

export default function AdminPage() {
  const { t } = useTranslation();
  const [path] = useLocation();
  return (
    <>
      <nav className={styles.places} aria-label={t("admin.nav.label")}>
        {PLACES.map(({ path: to, label, icon: Icon }) => (
          <Link key={to} href={to} className={styles.place} aria-current={path.startsWith(to) ? "page" : undefined}>
            <Icon size={17} aria-hidden="true" />
            {t(label)}
          </Link>
        ))}
      </nav>
      <Switch>
        <Route path="/admin/programs">
          <ProgramsPage />
        </Route>
        <Route path="/admin/gateways/:gateway">
          {({ gateway }) => <GatewayPage key={gateway} id={decodeURIComponent(gateway)} />}
        </Route>
        <Route>
          <GatewaysPage />
        </Route>
      </Switch>
    </>
  );
}

export function PageHead({ title, lead, children }: { title: string; lead: string; children?: ReactNode }) {
  return (
    <header className={styles.head}>
      <div className={styles.headText}>
        <h1 className={styles.title}>{title}</h1>
        <p className={styles.lead}>{lead}</p>
      </div>
      {children}
    </header>
  );
}

/** Who is no administrator is told so, not that something failed. */
export function Refused({ error, retry }: { error: unknown; retry: () => void }) {
  const { t } = useTranslation();
  const isForbidden = error instanceof ApiError && error.status === 403;
  return <ErrorState error={error} {...(isForbidden ? { title: t("admin.forbidden") } : { onRetry: retry })} />;
}
