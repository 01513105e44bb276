/** A consult's case packs in a few words: on the home page and before joining. What is missing stands there plainly. */
import { ClipboardList } from "lucide-react";
import { useTranslation } from "react-i18next";
import { packPagePath } from "./api";
import styles from "./CasePack.module.css";
import { Missing } from "./PackContent";
import { useOverview } from "./queries";
import { whenText } from "./words";

export function ConsultPacks({
  consult,
  patients,
}: {
  consult: string;
  patients: readonly { id: string; name: string }[];
}) {
  const { t } = useTranslation();
  const overview = useOverview();
  // Who gets no packs (a guest, a wall) sees nothing of them; nor does a failed request say that there is none.
  if (overview.data === undefined || patients.length === 0) return null;
  const packs = overview.data.packs.filter((pack) => pack.consult === consult);
  const nameOf = (id: string): string => patients.find((patient) => patient.id === id)?.name ?? "";
  return (
    <div className={styles.packLine} data-testid={`casepacks-${consult}`}>
      {packs.map((pack) => (
        <div key={pack.patient} className={styles.packLine}>
          <p className={styles.soft}>
            {patients.length > 1 && <strong>{nameOf(pack.patient)} · </strong>}
            {t("casepack.sentLine", {
              version: pack.version,
              hospital: pack.hospital,
              when: whenText(pack.sentAtMs),
            })}
          </p>
          <Missing findings={pack.missing} asked={pack.asked} />
        </div>
      ))}
      <a className={styles.link} href={packPagePath(consult)} data-testid={`link-casepack-${consult}`}>
        <ClipboardList size={17} aria-hidden="true" />
        {t(packs.length > 0 ? "casepack.open" : "casepack.prepareLink")}
      </a>
    </div>
  );
}
