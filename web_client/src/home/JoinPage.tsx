/**
 * A guest's way in: confirm, redeem the one-time token, go to the consult.
 *
 * Nothing is redeemed by opening the page: mail scanners and previews open
 * links too, and would use them up.
 */
import { Button } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { Link2Off, ShieldCheck, Stethoscope } from "lucide-react";
import { type ReactNode, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { readRedeemed } from "../common/api";
import { ColorSchemeSwitch, LanguageSwitch } from "../common/controls";
import { ApiError, useHttp } from "../common/http";
import { useSession } from "../common/queries";
import { EmptyState, ErrorState } from "../common/states";
import { Wordmark } from "../theme/Brand";
import styles from "./JoinPage.module.css";
import { consultPath, takeGuestToken } from "./routes";

export function JoinPage({ token: firstToken }: { token: string }) {
  const token = useToken(firstToken);
  return <Bare>{token === "" ? <Broken kind="noToken" /> : <Confirm key={token} token={token} />}</Bare>;
}

/** Another link pasted into the same tab changes only the part behind the "#". */
function useToken(first: string): string {
  const [token, setToken] = useState(first);
  useEffect(() => {
    const changed = (): void => {
      if (window.location.hash !== "") setToken(takeGuestToken(window.location, window.history));
    };
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return token;
}

function Confirm({ token }: { token: string }) {
  const { t } = useTranslation();
  const http = useHttp();
  const session = useSession();
  const redeem = useMutation({
    mutationFn: () => http.post("/api/invites/redeem", { token }, readRedeemed),
    onSuccess: ({ consult }) => window.location.assign(consultPath(consult)),
  });
  if (redeem.error instanceof ApiError && redeem.error.code === "invite_invalid") return <Broken kind="invalid" />;
  if (redeem.isError) return <ErrorState page error={redeem.error} onRetry={() => redeem.mutate()} />;
  const person = session.data?.kind === "person" ? session.data.person : null;
  return (
    <div className={styles.card}>
      <Stethoscope aria-hidden="true" className={styles.icon} strokeWidth={1.5} />
      <h1 className={styles.title}>{t("home.join.title")}</h1>
      <p className={styles.body}>{t("home.join.body")}</p>
      <ul className={styles.rules}>
        <li>
          <ShieldCheck size={18} aria-hidden="true" /> {t("home.join.rules1")}
        </li>
        <li>
          <ShieldCheck size={18} aria-hidden="true" /> {t("home.join.rules2")}
        </li>
      </ul>
      {person !== null && <p className={styles.warn}>{t("home.join.already", { name: person.name })}</p>}
      <Button
        size="lg"
        fullWidth
        disabled={redeem.isPending || redeem.isSuccess}
        data-testid="btn-redeem"
        onClick={() => redeem.mutate()}
      >
        {redeem.isPending || redeem.isSuccess ? t("home.join.joining") : t("home.join.confirm")}
      </Button>
    </div>
  );
}

function Broken({ kind }: { kind: "noToken" | "invalid" }) {
  const { t } = useTranslation();
  return <EmptyState page icon={Link2Off} title={t(`home.join.${kind}`)} body={t(`home.join.${kind}Body`)} />;
}

/** A page without an account: the mark, the language, one thing to do. */
export function Bare({ children }: { children: ReactNode }) {
  return (
    <div className={styles.page}>
      <header className={styles.head}>
        <Wordmark />
        <span className={styles.tools}>
          <LanguageSwitch />
          <ColorSchemeSwitch />
        </span>
      </header>
      <main className={styles.main}>{children}</main>
    </div>
  );
}
