/** Signing in: with an account, or in the demo with one click. */
import { Alert, Button, PasswordInput, TextInput } from "@mantine/core";
import { CircleAlert, Info } from "lucide-react";
import { type SubmitEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation, useSearch } from "wouter";
import type { DemoLogin } from "../common/api";
import { ColorSchemeSwitch, LanguageSwitch } from "../common/controls";
import { ApiError } from "../common/http";
import { type Credentials, useConfig, useSignIn } from "../common/queries";
import { localized } from "../i18n";
import { Wordmark } from "../theme/Brand";
import { safeNext } from "./routes";
import { Scene } from "./Scene";
import styles from "./SignInPage.module.css";

export function SignInPage() {
  const { t } = useTranslation();
  const config = useConfig();
  const query = new URLSearchParams(useSearch());
  const next = safeNext(query.get("next"));
  const why = query.get("why");
  const signIn = useGoAfterSignIn(next);
  const demoLogins = config.data?.demo === true ? config.data.demoLogins : [];
  return (
    <div className={styles.page}>
      <a className="skip-link" href="#main">
        {t("common.skipToContent")}
      </a>
      <aside className={styles.panel}>
        <Scene />
        <p className={styles.panelTitle}>{t("home.signIn.panelTitle")}</p>
        <p className={styles.panelBody}>{t("home.signIn.panelBody")}</p>
      </aside>
      <div className={styles.side}>
        <header className={styles.head}>
          <Wordmark />
          <span className={styles.tools}>
            <LanguageSwitch />
            <ColorSchemeSwitch />
          </span>
        </header>
        <main id="main" tabIndex={-1} className={styles.main}>
          <h1 className={styles.title}>{t("home.signIn.title")}</h1>
          <p className={styles.lead}>{t("home.signIn.lead")}</p>
          {why !== null && !signIn.isError && (
            <Alert
              className={styles.alert ?? ""}
              icon={<Info aria-hidden="true" />}
              variant="default"
              role="status"
              title={why === "expired" ? t("home.signIn.expired") : t("home.signIn.signedOut")}
            />
          )}
          <SignInForm busy={signIn.isPending} error={signIn.error} onSubmit={signIn.mutate} />
          {demoLogins.length > 0 && <DemoLogins logins={demoLogins} busy={signIn.isPending} onPick={signIn.mutate} />}
        </main>
        <footer className={styles.foot}>
          {t("common.tagline")}
          {config.data !== undefined && ` · ${config.data.version}`}
          <Link href="/test" className={styles.test} data-testid="link-nettest">
            {t("nettest.link")}
          </Link>
        </footer>
      </div>
    </div>
  );
}

function useGoAfterSignIn(next: string) {
  const [, navigate] = useLocation();
  const signIn = useSignIn();
  const go = (): void => {
    // The desk is a page of its own, not a route of this one.
    if (next.startsWith("/consult/")) window.location.assign(next);
    else navigate(next, { replace: true });
  };
  return { ...signIn, mutate: (credentials: Credentials) => signIn.mutate(credentials, { onSuccess: go }) };
}

interface SignInFormProps {
  busy: boolean;
  error: unknown;
  onSubmit: (credentials: Credentials) => void;
}

function SignInForm({ busy, error, onSubmit }: SignInFormProps) {
  const { t } = useTranslation();
  const [login, setLogin] = useState("");
  const [password, setPassword] = useState("");
  const [missing, setMissing] = useState(false);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const incomplete = login.trim() === "" || password === "";
    setMissing(incomplete);
    if (!incomplete) onSubmit({ login: login.trim(), password });
  };
  const message = missing ? t("home.signIn.missing") : error === null ? null : sentence(error);
  const waitS = !missing && error instanceof ApiError ? error.retryAfterS : null;
  return (
    <form className={styles.form} onSubmit={submit} noValidate>
      {message !== null && (
        <Alert
          className={styles.alert ?? ""}
          color="red"
          variant="outline"
          role="alert"
          icon={<CircleAlert aria-hidden="true" />}
        >
          {message} {waitS !== null && t("home.signIn.retryAfter", { seconds: waitS })}
        </Alert>
      )}
      <TextInput
        size="md"
        label={t("home.signIn.login")}
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        autoFocus
        data-testid="login"
        value={login}
        onChange={(event) => setLogin(event.currentTarget.value)}
      />
      <PasswordInput
        size="md"
        label={t("home.signIn.password")}
        autoComplete="current-password"
        data-testid="password"
        visibilityToggleButtonProps={{ "aria-label": t("home.signIn.showPassword") }}
        value={password}
        onChange={(event) => setPassword(event.currentTarget.value)}
      />
      <Button type="submit" size="md" fullWidth disabled={busy} data-testid="btn-sign-in">
        {busy ? t("home.signIn.submitting") : t("home.signIn.submit")}
      </Button>
    </form>
  );
}

const sentence = (error: unknown): string => (error instanceof ApiError ? localized(error) : String(error));

interface DemoLoginsProps {
  logins: readonly DemoLogin[];
  busy: boolean;
  onPick: (credentials: Credentials) => void;
}

function DemoLogins({ logins, busy, onPick }: DemoLoginsProps) {
  const { t } = useTranslation();
  return (
    <section className={styles.demo} aria-labelledby="demo-title">
      <h2 id="demo-title" className={styles.demoTitle}>
        {t("home.signIn.demoTitle")}
      </h2>
      <p className={styles.demoLead}>{t("home.signIn.demoLead")}</p>
      <ul className={styles.demoList}>
        {logins.map(({ login, password, name, role }) => (
          <li key={login}>
            <button
              type="button"
              className={styles.demoCard}
              disabled={busy}
              data-testid={`demo-login-${login}`}
              onClick={() => onPick({ login, password })}
            >
              <span className={styles.demoName}>{name}</span>
              <span className={styles.demoRole}>{t(`home.role.${role}`)}</span>
              <span className={styles.demoLogin}>{login}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
