/**
 * The pages of the record as a tab list.
 *
 * Arrow keys only move the focus; Enter or Space turns the page. Turning it on
 * every arrow press would drag all screens of the consult along.
 */
import { type KeyboardEvent, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import styles from "./RecordPane.module.css";
import { PAGES, type Page } from "./types";

export const tabId = (page: Page): string => `record-tab-${page}`;
export const PANEL_ID = "record-panel";

export interface PageTabsProps {
  page: Page;
  wall: boolean;
  onSelect: (page: Page) => void;
}

export function PageTabs({ page, wall, onSelect }: PageTabsProps) {
  const { t } = useTranslation();
  const tabs = useRef(new Map<Page, HTMLButtonElement>());
  const [focused, setFocused] = useState<Page | null>(null);

  if (wall) return <WallPages page={page} />;

  const onKeyDown = (event: KeyboardEvent): void => {
    const target = neighbour(focused ?? page, event.key);
    if (target === null) return;
    event.preventDefault();
    setFocused(target);
    tabs.current.get(target)?.focus();
  };
  const reachable = focused ?? page;
  return (
    <div className={styles.tabs} role="tablist" aria-label={t("record.label")} onKeyDown={onKeyDown}>
      {PAGES.map((one) => (
        <button
          key={one}
          ref={(element) => {
            if (element === null) tabs.current.delete(one);
            else tabs.current.set(one, element);
          }}
          type="button"
          role="tab"
          id={tabId(one)}
          data-testid={tabId(one)}
          aria-selected={one === page}
          aria-controls={PANEL_ID}
          tabIndex={one === reachable ? 0 : -1}
          className={styles.tab}
          onFocus={() => setFocused(one)}
          onBlur={() => setFocused(null)}
          onClick={() => onSelect(one)}
        >
          {t(`record.page.${one}`)}
        </button>
      ))}
    </div>
  );
}

/** Which tab a key leads to; null for keys that are not ours. */
export function neighbour(page: Page, key: string): Page | null {
  const index = PAGES.indexOf(page);
  const last = PAGES.length - 1;
  const to: Record<string, number> = {
    ArrowRight: index === last ? 0 : index + 1,
    ArrowLeft: index === 0 ? last : index - 1,
    Home: 0,
    End: last,
  };
  const target = to[key];
  return target === undefined ? null : (PAGES[target] ?? null);
}

/** A wall shows where the lead is; nothing there can be pressed. */
function WallPages({ page }: { page: Page }) {
  const { t } = useTranslation();
  return (
    <ol className={styles.tabs} aria-label={t("record.label")}>
      {PAGES.map((one) => (
        <li
          key={one}
          id={tabId(one)}
          data-testid={tabId(one)}
          className={styles.tab}
          aria-current={one === page ? "page" : undefined}
        >
          {t(`record.page.${one}`)}
        </li>
      ))}
    </ol>
  );
}
