/**
 * The last net under a page: something of ours failed, or a part of the page could not be loaded.
 *
 * Nothing clinical may stay on screen when the code that watches its freshness has died, so everything goes and a
 * plain page offers to reload. A wall has nobody to press a button: it reloads by itself, spread out over some
 * seconds, since all walls of a hospital meet the same upgrade at once.
 */
import { Component, type ReactNode } from "react";
import { i18n } from "../i18n";
import styles from "./EndScreen.module.css";

interface CrashBoundaryProps {
  children: ReactNode;
  reloadsItself?: boolean;
}

const RELOAD_MS = 5_000;
const RELOAD_JITTER_MS = 10_000;

export class CrashBoundary extends Component<CrashBoundaryProps, { readonly hasCrashed: boolean }> {
  override state = { hasCrashed: false };

  static getDerivedStateFromError(): { hasCrashed: boolean } {
    return { hasCrashed: true };
  }

  override componentDidCatch(): void {
    if (this.props.reloadsItself !== true) return;
    setTimeout(() => window.location.reload(), RELOAD_MS + Math.random() * RELOAD_JITTER_MS);
  }

  override render(): ReactNode {
    if (!this.state.hasCrashed) return this.props.children;
    return (
      <main className={styles.page} data-testid="crashed" role="alert">
        <div className={styles.card}>
          <h1 className={styles.title}>{i18n.t("desk.end.crashed")}</h1>
          <p className={styles.hint}>{i18n.t("desk.end.crashedHint")}</p>
          <div className={styles.actions}>
            <button type="button" className={styles.reload} onClick={() => window.location.reload()}>
              {i18n.t("desk.end.reload")}
            </button>
          </div>
        </div>
      </main>
    );
  }
}
