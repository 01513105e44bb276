/** One gateway: its state, what its policy means, what crossed, what was asked; ending its right. */
// Of this page only: the other pages do not carry it.
import "@mantine/core/styles/Tabs.layer.css";
import { Button, Tabs } from "@mantine/core";
import { ArrowLeft, ServerOff } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { EmptyState, Loading } from "../common/states";
import styles from "./Admin.module.css";
import { Refused } from "./AdminPage";
import type { Gateway } from "./api";
import { ConfirmDialog } from "./ConfirmDialog";
import { Command } from "./EnrolDialog";
import { Figures, State, useSince } from "./GatewaysPage";
import { CrossingsLog, QuestionsLog } from "./Log";
import { useLockOverview, useRevoke } from "./queries";

export function GatewayPage({ id }: { id: string }) {
  const { t } = useTranslation();
  const overview = useLockOverview();
  const gateway = overview.data?.gateways.find((one) => one.id === id);
  return (
    <>
      <Link className={styles.back} href="/admin/gateways">
        <ArrowLeft size={18} aria-hidden="true" /> {t("admin.gateways.title")}
      </Link>
      {gateway !== undefined ? (
        <One gateway={gateway} />
      ) : overview.data !== undefined ? (
        <EmptyState icon={ServerOff} title={t("admin.gateways.gone")} />
      ) : overview.isError ? (
        <Refused error={overview.error} retry={() => void overview.refetch()} />
      ) : (
        <Loading />
      )}
    </>
  );
}

function One({ gateway }: { gateway: Gateway }) {
  const { t } = useTranslation();
  const since = useSince(gateway);
  const [isRevoking, setRevoking] = useState(false);
  return (
    <>
      <header className={styles.head}>
        <div className={styles.headText}>
          <h1 className={styles.title}>
            {gateway.name} <State gateway={gateway} />
          </h1>
          <p className={styles.lead}>
            {gateway.hospital} · {since}
          </p>
        </div>
        {gateway.revokedAtMs === null && (
          <Button
            variant="default"
            className={styles.danger ?? ""}
            onClick={() => setRevoking(true)}
            data-testid="btn-revoke"
          >
            {t("admin.revoke.open")}
          </Button>
        )}
      </header>
      <section className={styles.card}>
        <Figures gateway={gateway} />
      </section>
      <Tabs defaultValue="crossings" className={styles.tabs} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="crossings">{t("admin.tab.crossings")}</Tabs.Tab>
          <Tabs.Tab value="questions" data-testid="tab-questions">
            {t("admin.tab.questions")}
          </Tabs.Tab>
          <Tabs.Tab value="policy" data-testid="tab-policy">
            {t("admin.tab.policy")}
          </Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="crossings">
          <CrossingsLog gateway={gateway.id} />
        </Tabs.Panel>
        <Tabs.Panel value="questions">
          <QuestionsLog gateway={gateway.id} />
        </Tabs.Panel>
        <Tabs.Panel value="policy">
          <Policy gateway={gateway} />
        </Tabs.Panel>
      </Tabs>
      {isRevoking && <RevokeDialog gateway={gateway} onClose={() => setRevoking(false)} />}
    </>
  );
}

/** What a policy is, in words: the rules themselves stay in the hospital, which alone changes them. */
function Policy({ gateway }: { gateway: Gateway }) {
  const { t } = useTranslation();
  return (
    <section className={`${styles.card} ${styles.policy}`} data-testid="policy">
      <h2 className={styles.heading}>{t("admin.policy.title")}</h2>
      <p>{t("admin.policy.whose")}</p>
      <ul className={styles.rules}>
        <li>{t("admin.policy.out")}</li>
        <li>{t("admin.policy.in")}</li>
        <li>{t("admin.policy.fields")}</li>
        <li>{t("admin.policy.questions")}</li>
      </ul>
      <p>{gateway.policy === "" ? t("admin.policy.unknown") : t("admin.policy.fingerprint")}</p>
      {gateway.policy !== "" && <p className={styles.fingerprint}>{gateway.policy}</p>}
      <p>{t("admin.policy.read")}</p>
      <Command text="consilium gateway check-policy" />
    </section>
  );
}

function RevokeDialog({ gateway, onClose }: { gateway: Gateway; onClose: () => void }) {
  const { t } = useTranslation();
  const revoke = useRevoke();
  return (
    <ConfirmDialog
      title={t("admin.revoke.title", { name: gateway.name })}
      action={t("admin.revoke.confirm")}
      testId="btn-revoke-confirm"
      isBusy={revoke.isPending}
      error={revoke.error}
      onConfirm={() => revoke.mutate(gateway.id, { onSuccess: onClose })}
      onClose={onClose}
    >
      <p className={styles.step}>{t("admin.revoke.body", { hospital: gateway.hospital })}</p>
      {gateway.waiting > 0 && <p className={styles.warn}>{t("admin.revoke.waiting", { count: gateway.waiting })}</p>}
    </ConfirmDialog>
  );
}
