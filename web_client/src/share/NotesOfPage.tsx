/** Below the page: what was drawn on it, by whom and when; a mistake says that it is one and stays. [SH4] [SH6] (C23) */
import { Button, TextInput } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { clockText, dayText } from "../home/consults";
import type { Note } from "./notes";
import styles from "./share.module.css";
import { type Sharing, useSharing } from "./sharing";

export function NotesOfPage() {
  const sharing = useSharing();
  const { t } = useTranslation();
  if (sharing === null || sharing.notes.length === 0) return null;
  return (
    <section className={styles.notes} aria-label={t("share.notes")} data-testid="notes">
      <h3 className={styles.notesTitle}>{t("share.notes")}</h3>
      <ul className={styles.noteRows}>
        {sharing.notes.map((note) => (
          <NoteRow key={note.id} note={note} sharing={sharing} />
        ))}
      </ul>
      {sharing.opened !== null && !sharing.isFitting && <Apart note={sharing.opened} />}
    </section>
  );
}

function NoteRow({ note, sharing }: { note: Note; sharing: Sharing }) {
  const { t } = useTranslation();
  const { link, version, opened, setOpened } = sharing;
  const [reason, setReason] = useState<string | null>(null);
  const role = link.consult.participants[link.me]?.role;
  const mayMark = link.canMark && note.inError === null && (role === "doctor" || note.participant === link.me);
  const isOpen = opened?.id === note.id;
  return (
    <li className={styles.noteRow} data-testid={`note-${note.id}`} data-in-error={note.inError !== null}>
      <span className={styles.noteWords}>
        <span className={styles.noteText}>{note.text === "" ? t("share.drawingOnly") : note.text}</span>
        <span className={styles.byline}>
          {note.author} · <time dateTime={note.at}>{when(note.at)}</time>
        </span>
        {note.inError !== null && (
          <strong className={styles.mistake}>
            {t("share.inError", { by: note.inError.by, reason: note.inError.reason })}
          </strong>
        )}
      </span>
      {link.canMark && (
        <Button
          size="compact-sm"
          variant={isOpen ? "filled" : "default"}
          onClick={() => setOpened(isOpen ? null : note)}
          data-testid="note-show"
        >
          {t(isOpen ? "share.hide" : "share.show")}
        </Button>
      )}
      {mayMark && reason === null && (
        <Button size="compact-sm" variant="subtle" color="red" onClick={() => setReason("")} data-testid="note-mistake">
          {t("share.mistake")}
        </Button>
      )}
      {mayMark && reason !== null && (
        <form
          className={styles.reason}
          onSubmit={(event) => {
            event.preventDefault();
            void link
              .ask({ type: "mark_note_in_error", note: note.id, context_version: version, reason: reason.trim() })
              .then((done) => done && setReason(null));
          }}
        >
          <TextInput
            size="xs"
            maxLength={200}
            placeholder={t("share.why")}
            aria-label={t("share.why")}
            value={reason}
            onChange={(event) => setReason(event.currentTarget.value)}
            data-testid="note-mistake-reason"
          />
          <Button size="compact-sm" type="submit" color="red" disabled={reason.trim().length < 3}>
            {t("share.mistake")}
          </Button>
        </form>
      )}
    </li>
  );
}

/** The page has other words now, or flows otherwise here: over it the strokes would point at the wrong thing. */
function Apart({ note }: { note: Note }) {
  const { t } = useTranslation();
  return (
    <figure className={styles.apart} data-testid="note-apart">
      <figcaption>{t("share.apart")}</figcaption>
      <img src={note.picture} alt={t("share.drawingOnly")} />
    </figure>
  );
}

function when(at: string): string {
  const ms = Date.parse(at);
  return Number.isNaN(ms) ? at : `${dayText(ms)} ${clockText(ms)}`;
}
