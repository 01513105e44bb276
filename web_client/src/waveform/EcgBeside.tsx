/**
 * A prior ECG beside the present one: the same scale, order and filter on both, a date on each.
 *
 * Where the window is wide they stand side by side, else one above the other with their
 * time axes in line.
 */

import styles from "./EcgBeside.module.css";
import { EcgStill, type EcgStillProps } from "./EcgStill";
import { type EcgLook, EcgView, type EcgViewProps } from "./EcgView";

export interface EcgBesideProps {
  readonly look: EcgLook;
  readonly current: Omit<EcgViewProps, keyof EcgLook>;
  readonly prior: Omit<EcgStillProps, keyof EcgLook>;
}

/** What a wall enlarges by when it shows two: each view alone would choose by its own size. */
const WALL_ZOOM = 1.5;

export function EcgBeside({ look, current, prior }: EcgBesideProps): React.JSX.Element {
  const same: EcgLook = { ...look, zoom: look.zoom ?? (look.theme === "wall" ? WALL_ZOOM : 1) };
  return (
    <div className={styles.frame} data-testid="ecg-beside">
      <div className={styles.pair}>
        <div className={styles.one}>
          <EcgStill {...prior} {...same} />
        </div>
        <div className={styles.one}>
          <EcgView {...current} {...same} dated />
        </div>
      </div>
    </div>
  );
}
