/** Mark the page together: look here, draw on it, and what was drawn on it before. */
import { Button, TextInput } from "@mantine/core";
import { Eraser, Highlighter, PenLine, Undo2 } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import styles from "./share.module.css";
import { freezeOf, nameOf, type Sharing, useSharing } from "./sharing";

export function ShareBar() {
  const sharing = useSharing();
  if (sharing === null || !sharing.shared) return null;
  const { link, version, view, mode } = sharing;
  const freeze = freezeOf(link.consult, version, view);
  if (freeze !== null && (freeze.by !== link.me || mode !== "draw")) return <Frozen sharing={sharing} by={freeze.by} />;
  if (freeze !== null) return <Drawing sharing={sharing} freeze={freeze.id} />;
  return link.canMark ? <Tools sharing={sharing} /> : null;
}

function Tools({ sharing }: { sharing: Sharing }) {
  const { t } = useTranslation();
  const { link, mode, setMode } = sharing;
  const hasOwn = link.consult.highlights[link.me] !== undefined;
  const isOff = !link.isConnected;
  return (
    <div className={styles.tools}>
      {mode === "highlight" && <span className={styles.hint}>{t("share.highlightHint")}</span>}
      <Button
        size="compact-sm"
        variant={mode === "highlight" ? "filled" : "subtle"}
        disabled={isOff}
        aria-label={t("share.highlight")}
        onClick={() => setMode(mode === "highlight" ? "none" : "highlight")}
        data-testid="btn-highlight"
      >
        <Highlighter size={16} aria-hidden="true" />
        <span className={styles.word}>{t("share.highlight")}</span>
      </Button>
      {hasOwn && (
        <Button
          size="compact-sm"
          variant="subtle"
          disabled={isOff}
          aria-label={t("share.clear")}
          onClick={() => void link.ask({ type: "clear_highlight" })}
          data-testid="btn-clear-highlight"
        >
          <Eraser size={16} aria-hidden="true" />
          <span className={styles.word}>{t("share.clear")}</span>
        </Button>
      )}
      <Button
        size="compact-sm"
        variant="subtle"
        disabled={isOff}
        aria-label={t("share.draw")}
        onClick={() => setMode("draw")}
        data-testid="btn-draw"
      >
        <PenLine size={16} aria-hidden="true" />
        <span className={styles.word}>{t("share.draw")}</span>
      </Button>
    </div>
  );
}

function Drawing({ sharing, freeze }: { sharing: Sharing; freeze: string }) {
  const { t } = useTranslation();
  const { link, version, strokes, setStrokes } = sharing;
  const [text, setText] = useState("");
  const [isSaving, setSaving] = useState(false);
  const [id] = useState(() => crypto.randomUUID());
  const release = (): void => void link.ask({ type: "release_page" });
  const save = async (): Promise<void> => {
    setSaving(true);
    const kept = await link.ask({
      type: "put_note",
      id,
      freeze,
      context_version: version,
      strokes: strokes.map((stroke) => [...stroke]),
      text: text.trim(),
    });
    setSaving(false);
    // What was not kept stays under the pen: it can be tried again.
    if (kept) release();
  };
  return (
    <div className={styles.tools} data-mode="draw">
      <span className={styles.hint} role="status">
        {t("share.drawing")}
      </span>
      <TextInput
        size="xs"
        maxLength={200}
        className={styles.text}
        placeholder={t("share.text")}
        aria-label={t("share.text")}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        data-testid="note-text"
      />
      <Button
        size="compact-sm"
        variant="subtle"
        disabled={strokes.length === 0}
        aria-label={t("share.undo")}
        onClick={() => setStrokes((before) => before.slice(0, -1))}
      >
        <Undo2 size={16} aria-hidden="true" />
      </Button>
      <Button size="compact-sm" variant="default" onClick={release} data-testid="btn-draw-cancel">
        {t("share.cancel")}
      </Button>
      <Button
        size="compact-sm"
        loading={isSaving}
        disabled={strokes.length === 0 || !link.isConnected}
        onClick={() => void save()}
        data-testid="btn-note-save"
      >
        {t("share.save")}
      </Button>
    </div>
  );
}

/** Somebody else draws, or a page of ours that was reloaded still stands for all. */
function Frozen({ sharing, by }: { sharing: Sharing; by: string }) {
  const { t } = useTranslation();
  const { link, isFitting } = sharing;
  const isMine = by === link.me;
  return (
    <div className={styles.tools} data-mode="frozen" data-testid="page-frozen">
      <span className={styles.hint} role="status">
        {isMine ? t("share.frozenMine") : t("share.frozen", { name: nameOf(link.consult, by) })}
        {!isFitting && ` ${t("share.otherLayout")}`}
      </span>
      {link.canMark && (
        <Button
          size="compact-sm"
          variant="default"
          onClick={() => void link.ask({ type: "release_page" })}
          data-testid="btn-release-page"
        >
          {t("share.release")}
        </Button>
      )}
    </div>
  );
}
