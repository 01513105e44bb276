/** The mark: three screens in step, with a heartbeat running through them. */
import styles from "./Brand.module.css";

export function BrandMark({ size = 28 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" className={styles.mark}>
      <rect className={styles.panel} x="1" y="7" width="8.6" height="18" rx="2" />
      <rect className={styles.panel} x="11.7" y="7" width="8.6" height="18" rx="2" />
      <rect className={styles.panel} x="22.4" y="7" width="8.6" height="18" rx="2" />
      <path className={styles.beat} d="M1 17h10.5l2-5.5 3.2 10 2.4-7 1.4 2.5H31" />
    </svg>
  );
}

export function Wordmark() {
  return (
    <span className={styles.wordmark}>
      <BrandMark />
      <span className={styles.word}>Consilium</span>
    </span>
  );
}
