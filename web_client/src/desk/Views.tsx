/** Where the three views stand: panels to drag on a desk, stacked with the ECG first on a phone. */
import { Activity, FileText, Video } from "lucide-react";
import { type ReactNode, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";
import { Group, Panel, Separator, useGroupRef } from "react-resizable-panels";
import { type LayoutName, SIZES } from "./layouts";
import styles from "./Views.module.css";

export interface ViewsProps {
  layout: LayoutName;
  video: ReactNode;
  record: ReactNode;
  ecg: ReactNode;
}

const NARROW = "(max-width: 900px)";

function useIsNarrow(): boolean {
  return useSyncExternalStore(
    (onChange) => {
      const query = window.matchMedia(NARROW);
      query.addEventListener("change", onChange);
      return () => query.removeEventListener("change", onChange);
    },
    () => window.matchMedia(NARROW).matches,
  );
}

export function Views(props: ViewsProps) {
  return useIsNarrow() ? <Stacked {...props} /> : <Panels {...props} />;
}

function Panels({ layout, video, record, ecg }: ViewsProps) {
  const { t } = useTranslation();
  const columns = useGroupRef();
  const rows = useGroupRef();
  useEffect(() => {
    columns.current?.setLayout({ ...SIZES[layout].columns });
    rows.current?.setLayout({ ...SIZES[layout].rows });
  }, [layout, columns, rows]);
  return (
    <main className={styles.panels} aria-label={t("desk.views.label")}>
      <Group orientation="vertical" groupRef={rows} defaultLayout={{ ...SIZES[layout].rows }}>
        <Panel id="panel-top" minSize="20%">
          <Group orientation="horizontal" groupRef={columns} defaultLayout={{ ...SIZES[layout].columns }}>
            <Panel id="panel-video" minSize="15%">
              <section className={styles.pictures} aria-label={t("desk.views.video")}>
                {video}
              </section>
            </Panel>
            <Separator className={styles.barX} />
            <Panel id="panel-record" minSize="20%">
              <div className={styles.pane}>{record}</div>
            </Panel>
          </Group>
        </Panel>
        <Separator className={styles.barY} />
        <Panel id="panel-ecg" minSize="12%">
          <section className={styles.pane} aria-label={t("desk.views.ecg")}>
            {ecg}
          </section>
        </Panel>
      </Group>
    </main>
  );
}

const STACK = [
  { name: "ecg", Icon: Activity },
  { name: "video", Icon: Video },
  { name: "record", Icon: FileText },
] as const;

/** One under the other, and above them a bar that does not scroll: each view is one tap away, the record fills the rest. */
function Stacked(views: ViewsProps) {
  const { t } = useTranslation();
  const scroller = useRef<HTMLDivElement>(null);
  const [current, setCurrent] = useState(0);
  const goTo = (place: number): void => {
    const box = scroller.current;
    const view = box?.children[place];
    // Not scrollIntoView: it would move every box around this one too, the patient's banner with it (W18).
    if (box !== null && view instanceof HTMLElement) box.scrollTo({ top: view.offsetTop - GAP_PX });
    setCurrent(place);
  };
  return (
    <main className={styles.stackFrame} aria-label={t("desk.views.label")}>
      <nav className={styles.jump} aria-label={t("desk.views.jump")}>
        {STACK.map(({ name, Icon }, place) => (
          <button
            type="button"
            key={name}
            data-testid={`view-${name}`}
            aria-current={place === current}
            onClick={() => goTo(place)}
          >
            <Icon aria-hidden="true" />
            {t(`desk.views.${name}`)}
          </button>
        ))}
      </nav>
      <div className={styles.stack} ref={scroller} onScroll={(event) => setCurrent(inSight(event.currentTarget))}>
        <section className={styles.ecg} aria-label={t("desk.views.ecg")}>
          {views.ecg}
        </section>
        <section className={styles.video} aria-label={t("desk.views.video")}>
          {views.video}
        </section>
        <div className={styles.record}>{views.record}</div>
      </div>
    </main>
  );
}

/** Between the views, and around them; as in the style sheet. */
const GAP_PX = 8;

/** Which of a scroller's children fills its upper third; the last one where it can go no further. */
export function inSight(box: Pick<HTMLElement, "scrollTop" | "clientHeight" | "scrollHeight" | "children">): number {
  const tops = [...box.children].map((child) => (child as HTMLElement).offsetTop);
  if (box.scrollTop + box.clientHeight >= box.scrollHeight - 1) return tops.length - 1;
  const read = box.scrollTop + box.clientHeight / 3;
  return Math.max(0, tops.filter((top) => top <= read).length - 1);
}
