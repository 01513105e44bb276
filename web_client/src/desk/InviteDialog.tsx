/** A one-time link for a doctor from outside: name, link, QR, and until when it admits (ARCHITECTURE section 8). */
import { Button, Modal, TextInput } from "@mantine/core";
import { Check, Copy } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError, useHttp } from "../common/http";
import { num, obj, str } from "../common/read";
import { clockText } from "../home/consults";
import { localized } from "../i18n";
import { QrCode } from "../wall/QrCode";
import styles from "./Dialogs.module.css";

interface Invite {
  readonly url: string;
  readonly expiresAtMs: number | null;
}

const readInvite = (body: unknown): Invite => {
  const o = obj(body);
  return { url: str(o.url), expiresAtMs: num(o.expires_at_ms) };
};

export function InviteDialog({
  consultId,
  opened,
  onClose,
}: {
  consultId: string;
  opened: boolean;
  onClose: () => void;
}) {
  const { t } = useTranslation();
  return (
    <Modal
      closeButtonProps={{ "aria-label": t("desk.device.dismiss") }}
      opened={opened}
      onClose={onClose}
      title={t("desk.invite.title")}
      centered
      size="md"
    >
      {opened && <InviteForm consultId={consultId} />}
    </Modal>
  );
}

function InviteForm({ consultId }: { consultId: string }) {
  const { t } = useTranslation();
  const http = useHttp();
  const [name, setName] = useState("");
  const [invite, setInvite] = useState<Invite | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);

  const create = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const path = `/api/consults/${encodeURIComponent(consultId)}/invites`;
      setInvite(await http.post(path, { name: name.trim() }, readInvite));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(localized(problem));
    } finally {
      setBusy(false);
    }
  };

  if (invite !== null) return <Created invite={invite} onAnother={() => setInvite(null)} />;
  return (
    <form className={styles.form} onSubmit={(event) => void create(event)}>
      <p className={styles.intro}>{t("desk.invite.intro")}</p>
      <TextInput
        label={t("desk.invite.name")}
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
        maxLength={80}
        required
        data-autofocus
        data-testid="invite-name"
        error={error}
        autoComplete="off"
      />
      <div className={styles.actions}>
        <Button type="submit" loading={isBusy} disabled={name.trim() === ""} data-testid="invite-create">
          {t("desk.invite.create")}
        </Button>
      </div>
    </form>
  );
}

function Created({ invite, onAnother }: { invite: Invite; onAnother: () => void }) {
  const { t } = useTranslation();
  const [isCopied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(invite.url);
    setCopied(true);
  };
  const time = invite.expiresAtMs === null ? "" : clockText(invite.expiresAtMs);
  return (
    <div className={styles.form}>
      <TextInput
        label={t("desk.invite.url")}
        value={invite.url}
        readOnly
        data-testid="invite-url"
        description={t("desk.invite.expires", { time })}
        onFocus={(event) => event.currentTarget.select()}
      />
      <QrCode className={styles.qr} text={invite.url} label={t("desk.invite.qr")} />
      <div className={styles.actions}>
        <Button variant="default" onClick={onAnother}>
          {t("desk.invite.another")}
        </Button>
        <Button
          onClick={() => void copy()}
          leftSection={isCopied ? <Check size={16} aria-hidden="true" /> : <Copy size={16} aria-hidden="true" />}
        >
          {isCopied ? t("desk.invite.copied") : t("desk.invite.copy")}
        </Button>
      </div>
    </div>
  );
}
