/** The frame of every signed-in page: where you are, who you are, the way out. */
import { Button, Menu } from "@mantine/core";
import { CalendarClock, LogOut, MonitorCog, ShieldCheck, UserRound } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "wouter";
import type { Person } from "../common/api";
import { Clock, ColorSchemeSwitch, LanguageSwitch } from "../common/controls";
import { useSignOut } from "../common/queries";
import { Wordmark } from "../theme/Brand";
import { loginPath } from "./routes";
import styles from "./Shell.module.css";

const PLACES = [
  { path: "/", label: "home.nav.consults", icon: CalendarClock },
  { path: "/station", label: "home.nav.stations", icon: MonitorCog },
] as const;
/** For administrators, besides. */
const ADMIN = { path: "/admin/gateways", label: "home.nav.admin", icon: ShieldCheck } as const;

const isAt = (path: string, place: string): boolean =>
  path === place || (place === ADMIN.path && path.startsWith("/admin/"));

export function Shell({ person, children }: { person: Person; children: ReactNode }) {
  const { t } = useTranslation();
  const [path] = useLocation();
  return (
    <div className={styles.shell}>
      <a className="skip-link" href="#main">
        {t("common.skipToContent")}
      </a>
      <header className={styles.head}>
        <Link href="/" className={styles.brand} aria-label={t("common.product")}>
          <Wordmark />
        </Link>
        <nav className={styles.nav} aria-label={t("home.nav.label")}>
          {(person.role === "admin" ? [...PLACES, ADMIN] : PLACES).map(({ path: to, label, icon: Icon }) => (
            <Link key={to} href={to} className={styles.place} aria-current={isAt(path, to) ? "page" : undefined}>
              <Icon size={19} aria-hidden="true" />
              {t(label)}
            </Link>
          ))}
        </nav>
        <div className={styles.tools}>
          <span className={styles.wide}>
            <Clock />
          </span>
          <LanguageSwitch />
          <ColorSchemeSwitch />
          <Account person={person} />
        </div>
      </header>
      <main id="main" tabIndex={-1} className={styles.main}>
        {children}
      </main>
    </div>
  );
}

function Account({ person }: { person: Person }) {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const signOut = useSignOut(() => navigate(loginPath("/", "out"), { replace: true }));
  return (
    <Menu position="bottom-end" withinPortal={false}>
      <Menu.Target>
        <Button
          variant="default"
          size="compact-md"
          aria-label={t("home.account.menu", { name: person.name })}
          data-testid="btn-account"
        >
          <UserRound size={17} aria-hidden="true" />
          <span className={styles.accountName}>{person.name}</span>
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <div className={styles.who}>
          <strong>{person.name}</strong>
          {person.nameLatin !== "" && person.nameLatin !== person.name && <span>{person.nameLatin}</span>}
          <span className={styles.soft}>
            {t(`home.role.${person.role}`)} · {person.hospital.name}
          </span>
        </div>
        <Menu.Divider />
        <Menu.Item
          leftSection={<LogOut size={16} aria-hidden="true" />}
          data-testid="btn-sign-out"
          onClick={() => signOut.mutate()}
        >
          {t("home.account.signOut")}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
