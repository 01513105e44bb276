/** Vital signs: the latest of each with its own time, and one of them over time. */
import { HeartOff } from "lucide-react";
import { useTranslation } from "react-i18next";
import { graver, isOutOfRange, type LabValue } from "../fhirLabs";
import { type VitalCard, vitalCards, vitalRows } from "../fhirVitals";
import { entryOf } from "../place";
import styles from "../RecordPane.module.css";
import { usePane } from "../recordData";
import { Drawn, FlagMark, StatusOf } from "./Labs";
import own from "./pages.module.css";
import { BackToList, Empty, full, More, Name, Notice, PageTitle, Ready, Section, Sought, When } from "./parts";
import { Sparkline } from "./Sparkline";

export function VitalsPage({ item }: { item: string }) {
  const { t } = useTranslation();
  const { data } = usePane();
  const code = entryOf(item);
  return (
    <>
      {code === "" && <PageTitle page="vitals" />}
      <Ready of={data.vitals} page="vitals">
        {(values) => {
          const cards = vitalCards(values);
          if (code !== "") return <OneSign card={cards.find((card) => card.code === code)} />;
          if (cards.length === 0) return <Empty text={t("record.vitals.empty")} />;
          return (
            <ul className={own.cards}>
              {cards.map((card) => (
                <SignCard key={card.code} card={card} />
              ))}
            </ul>
          );
        }}
      </Ready>
    </>
  );
}

/** A pressure is called by both halves. */
function SignName({ card }: { card: VitalCard }) {
  const { t } = useTranslation();
  if (card.series.length === 2) return <span className={styles.nameMain}>{t("record.vitals.pressure")}</span>;
  return <Name term={card.name} />;
}

function SignValue({ card }: { card: VitalCard }) {
  const { t } = useTranslation();
  const { latest } = card;
  if (latest === null) return <p className={styles.soft}>{t("record.labs.void")}</p>;
  return (
    <p className={own.signValue}>
      <strong data-testid={`vital-value-${card.code}`}>{latest.text}</strong>{" "}
      <span className={styles.unit}>{latest.unit}</span>
      {isOutOfRange(latest.rated.flag) && <FlagMark of={latest.rated} />} <StatusOf value={latest.value} />
    </p>
  );
}

function SignCard({ card }: { card: VitalCard }) {
  const { go, wall } = usePane();
  const body = (
    <>
      <span className={own.signName}>
        <SignName card={card} />
      </span>
      <SignValue card={card} />
      <span className={own.signFoot}>
        <When at={card.latest?.value.at ?? null} />
        <Sparkline series={card.series[0]} />
      </span>
    </>
  );
  if (wall) return <li className={own.card}>{body}</li>;
  return (
    <li className={own.cardBox}>
      <button
        type="button"
        className={own.card}
        data-testid={`vital-${card.code}`}
        onClick={() => go("vitals", card.code)}
      >
        {body}
      </button>
    </li>
  );
}

function OneSign({ card }: { card: VitalCard | undefined }) {
  const { t } = useTranslation();
  const { data } = usePane();
  if (card === undefined) {
    return (
      <>
        <BackToList page="vitals" />
        <Sought of={data.vitals}>
          <Notice icon={HeartOff} title={t("record.notHere")} />
        </Sought>
      </>
    );
  }
  const [series, second] = card.series;
  return (
    <>
      <BackToList page="vitals" />
      <header className={styles.pageHead}>
        <h2 className={styles.pageTitle}>
          <SignName card={card} />
        </h2>
        <p className={styles.latest}>
          <SignValue card={card} /> <When at={card.latest?.value.at ?? null} />
        </p>
      </header>
      <Drawn series={series} second={second} />
      <Section title={t("record.labs.history")} count={vitalRows(card).length}>
        <Values card={card} />
      </Section>
    </>
  );
}

function Values({ card }: { card: VitalCard }) {
  const { t } = useTranslation();
  return (
    <table className={styles.table}>
      <thead>
        <tr>
          <th scope="col">{t("record.vitals.measured")}</th>
          <th scope="col" className={styles.numeric}>
            {t("record.labs.result")}
          </th>
          <th scope="col">{t("record.labs.flag")}</th>
        </tr>
      </thead>
      <tbody>
        {vitalRows(card).map(({ value, second }) => (
          <tr key={value.id} data-flag={value.void ? "none" : value.flag}>
            <th scope="row">
              <When at={value.at} />
              {card.series.length === 1 && full(value.name) !== full(card.name) && (
                <p className={styles.note}>{full(value.name)}</p>
              )}
              {value.note !== "" && <p className={styles.note}>{value.note}</p>}
            </th>
            <td className={styles.numeric}>
              <span className={styles.result} data-struck={value.void}>
                <strong>{second === null ? halfText(card, value) : `${value.text.en}/${second.text.en}`}</strong>{" "}
                <span className={styles.unit}>{value.unit}</span>
              </span>
            </td>
            <td>
              <span className={styles.flagCell}>
                {!value.void && <FlagMark of={graver(value, second)} />} <StatusOf value={value} />
              </span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** One half of a pressure that was measured without the other shows which one it is. */
function halfText(card: VitalCard, value: LabValue): string {
  const [first, second] = card.series;
  if (second === undefined) return value.text.en;
  return value.code === first.code ? `${value.text.en}/–` : `–/${value.text.en}`;
}

/** On the summary: the latest of each in one table, every one with its own time. */
export function LatestVitals() {
  const { t } = useTranslation();
  const { data, go, wall } = usePane();
  return (
    <Ready of={data.vitals} newestOnly>
      {(values) => {
        const cards = vitalCards(values);
        if (cards.length === 0) return <Empty text={t("record.vitals.empty")} />;
        return (
          <>
            <table className={styles.table}>
              <tbody>
                {cards.slice(0, MANY).map((card) => (
                  <tr key={card.code}>
                    <th scope="row">
                      {wall ? (
                        <SignName card={card} />
                      ) : (
                        <button type="button" className={styles.testButton} onClick={() => go("vitals", card.code)}>
                          <SignName card={card} />
                        </button>
                      )}
                    </th>
                    <td className={styles.numeric}>
                      <strong>{card.latest?.text ?? "-"}</strong>{" "}
                      <span className={styles.unit}>{card.latest?.unit ?? ""}</span>
                    </td>
                    <td>
                      {card.latest !== null && isOutOfRange(card.latest.rated.flag) && (
                        <FlagMark of={card.latest.rated} />
                      )}
                    </td>
                    <td>
                      <When at={card.latest?.value.at ?? null} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
            <More page="vitals" total={cards.length} shown={MANY} />
          </>
        );
      }}
    </Ready>
  );
}

const MANY = 7;
