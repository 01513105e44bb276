/** Where the three views stand: panels to drag on a desk, stacked with the ECG first on a phone. */
import { type ReactNode, useEffect, useSyncExternalStore } from "react";
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
              <section className={styles.video} aria-label={t("desk.views.video")}>
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

function Stacked({ video, record, ecg }: ViewsProps) {
  const { t } = useTranslation();
  return (
    <main className={styles.stack} aria-label={t("desk.views.label")}>
      <section className={styles.stackEcg} aria-label={t("desk.views.ecg")}>
        {ecg}
      </section>
      <section className={styles.stackVideo} aria-label={t("desk.views.video")}>
        {video}
      </section>
      <div className={styles.stackRecord}>{record}</div>
    </main>
  );
}
