/** A drawing of a consulting room's wall: record, video and ECG on three screens. Decoration only. */
import styles from "./Scene.module.css";

const ROWS = [96, 74, 88, 60, 82, 70];
const BEAT = "l10 0 4 -4 4 4 6 0 3 5 5 -38 6 46 4 -13 7 0 6 -8 8 8 9 0";

export function Scene() {
  return (
    <svg className={styles.scene} viewBox="0 0 640 300" aria-hidden="true" preserveAspectRatio="xMidYMid meet">
      <g className={styles.screen}>
        <rect x="8" y="40" width="196" height="150" rx="8" />
        <rect x="222" y="28" width="196" height="162" rx="8" />
        <rect x="436" y="40" width="196" height="150" rx="8" />
      </g>
      <g>
        <rect className={styles.banner} x="20" y="52" width="172" height="18" rx="3" />
        <rect className={styles.banner} x="234" y="40" width="172" height="18" rx="3" />
        <rect className={styles.banner} x="448" y="52" width="172" height="18" rx="3" />
      </g>
      <g className={styles.lines}>
        {ROWS.map((width, index) => (
          <rect key={width} x="20" y={84 + index * 16} width={width * 1.7} height="6" rx="3" />
        ))}
      </g>
      <g className={styles.person}>
        <circle cx="290" cy="108" r="17" />
        <path d="M256 178c0-26 15-42 34-42s34 16 34 42z" />
        <circle cx="354" cy="116" r="14" />
        <path d="M326 178c0-22 12-36 28-36s28 14 28 36z" />
      </g>
      <g className={styles.trace}>
        <path d={`M448 110${BEAT}${BEAT}l16 0`} />
        <path d={`M448 162${BEAT}${BEAT}l16 0`} />
      </g>
      <g className={styles.desk}>
        <path d="M40 290h560l-44 -46H84z" />
      </g>
      <g className={styles.doctors}>
        {[196, 320, 444].map((x) => (
          <g key={x}>
            <circle cx={x} cy="222" r="16" />
            <path d={`M${x - 38} 290c0-30 16-48 38-48s38 18 38 48z`} />
          </g>
        ))}
      </g>
    </svg>
  );
}
