/** Routes of the app page: sign-in, consults, stations, a guest's way in. */
import { MonitorCheck, SearchX, Ticket } from "lucide-react";
import { lazy, type ReactNode, Suspense, useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import { Redirect, Route, Switch, useLocation } from "wouter";
import type { Person } from "../common/api";
import { useSession } from "../common/queries";
import { EmptyState, ErrorState, Loading, PageBoundary } from "../common/states";
import { ConsultsPage } from "./ConsultsPage";
import { Bare, JoinPage } from "./JoinPage";
import styles from "./JoinPage.module.css";
import { consultPath, loginPath } from "./routes";
import { Shell } from "./Shell";
import { SignInPage } from "./SignInPage";

const TestPage = lazy(() => import("../nettest/TestPage"));
const CasePackPage = lazy(() => import("../casepack/CasePackPage"));
const AdminPage = lazy(() => import("../admin/AdminPage"));
const StationPage = lazy(() => import("../station/StationPage"));

export function App({ guestToken }: { guestToken: string }) {
  return (
    <PageBoundary>
      <Switch>
        <Route path="/login">
          <SignInPage />
        </Route>
        <Route path="/join">
          <JoinPage token={guestToken} />
        </Route>
        <Route path="/test">
          <Bare>
            <Suspense fallback={<Loading />}>
              <TestPage />
            </Suspense>
          </Bare>
        </Route>
        <Route path="/">{() => <ForPerson page={(person) => <ConsultsPage person={person} />} />}</Route>
        <Route path="/casepack/:consult">
          {({ consult }) => (
            <ForPerson page={(person) => <CasePackPage consultId={decodeURIComponent(consult)} person={person} />} />
          )}
        </Route>
        <Route path="/admin/*">{() => <ForPerson page={() => <AdminPage />} />}</Route>
        <Route path="/station">{() => <ForPerson page={() => <StationPage />} />}</Route>
        <Route>
          <NotFound />
        </Route>
      </Switch>
    </PageBoundary>
  );
}

/** A page for somebody with an account; others are told where they belong. */
function ForPerson({ page }: { page: (person: Person) => ReactNode }) {
  const session = useSession();
  const [path] = useLocation();
  const wasSignedIn = useRef(false);
  useEffect(() => {
    if (session.data?.kind === "person") wasSignedIn.current = true;
  }, [session.data]);
  if (session.data === undefined) {
    return (
      <Bare>
        {session.isError ? (
          <ErrorState page error={session.error} onRetry={() => void session.refetch()} />
        ) : (
          <Loading />
        )}
      </Bare>
    );
  }
  if (session.data === null) {
    const here = path + window.location.search;
    return <Redirect to={loginPath(here, wasSignedIn.current ? "expired" : undefined)} replace />;
  }
  if (session.data.kind === "guest") return <GuestHome consult={session.data.consult} />;
  if (session.data.kind === "screen") return <ScreenHome />;
  return (
    <Shell person={session.data.person}>
      <Suspense fallback={<Loading />}>{page(session.data.person)}</Suspense>
    </Shell>
  );
}

function GuestHome({ consult }: { consult: string }) {
  const { t } = useTranslation();
  return (
    <Bare>
      <EmptyState page icon={Ticket} title={t("home.guest.title")} body={t("home.guest.body")}>
        <a className={styles.go} href={consultPath(consult)}>
          {t("home.guest.back")}
        </a>
      </EmptyState>
    </Bare>
  );
}

function ScreenHome() {
  const { t } = useTranslation();
  return (
    <Bare>
      <EmptyState page icon={MonitorCheck} title={t("home.screen.title")} body={t("home.screen.body")}>
        <a className={styles.go} href="/wall">
          {t("home.screen.open")}
        </a>
      </EmptyState>
    </Bare>
  );
}

function NotFound() {
  const { t } = useTranslation();
  return (
    <Bare>
      <EmptyState page icon={SearchX} title={t("common.notFoundTitle")} body={t("common.notFoundBody")}>
        <a className={styles.go} href="/">
          {t("common.toStart")}
        </a>
      </EmptyState>
    </Bare>
  );
}
