/** What the tool in hand asks for and what it has measured: calipers, QT with its formula and RR, words of a mark. */
import { ActionIcon, Button, CloseButton, Switch, TextInput } from "@mantine/core";
import { ArrowLeftRight, TriangleAlert } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { measure, resolutionMs } from "./calipers";
import { List } from "./DisplayForm";
import { caliperText, MAX_MARKS, MAX_TEXT } from "./marks";
import { FORMULA_NAMES, isBazettDoubtful, QT_FORMULAS, type QtBeat, qtProblem, readQt } from "./qtc";
import styles from "./ToolPanel.module.css";
import type { Tools } from "./useTools";

export interface ToolPanelProps {
  readonly tools: Tools;
  readonly sampleRateMhz: number;
  readonly isFiltered: boolean;
  readonly isConnected: boolean;
  readonly marksCount: number;
  /** Where it floats over the trace; `null`: in line below it. */
  readonly side: "left" | "right" | null;
}

export function ToolPanel(props: ToolPanelProps) {
  const { t } = useTranslation();
  const { tools } = props;
  // By whoever wants to measure what it covers.
  const [isMoved, setMoved] = useState(false);
  if (tools.tool === null) return null;
  const other = props.side === "left" ? "right" : "left";
  return (
    <aside
      className={styles.panel}
      data-side={props.side === null ? "below" : isMoved ? other : props.side}
      data-testid="ecg-tool-panel"
      data-tool={tools.tool}
    >
      <CloseButton
        className={styles.close ?? ""}
        size="sm"
        aria-label={t("ecg.tools.close")}
        onClick={() => tools.choose(null)}
      />
      {props.side !== null && (
        <ActionIcon
          className={styles.move ?? ""}
          size="sm"
          variant="subtle"
          color="gray"
          aria-label={t("ecg.tools.move")}
          title={t("ecg.tools.move")}
          onClick={() => setMoved(!isMoved)}
          data-testid="ecg-tool-move"
        >
          <ArrowLeftRight size={14} />
        </ActionIcon>
      )}
      {tools.tool === "caliper" && <CaliperPart {...props} />}
      {tools.tool === "qt" && <QtPart {...props} />}
      {(tools.tool === "marker" || tools.tool === "note") && <WordsPart {...props} kind={tools.tool} />}
      {tools.tool === "point" && <p className={styles.ask}>{t("ecg.mark.point")}</p>}
      {tools.problem !== null && (
        <p className={styles.problem} role="alert">
          <TriangleAlert aria-hidden="true" /> {t(`ecg.caliper.${tools.problem}`)}
        </p>
      )}
      {props.marksCount >= MAX_MARKS && <p className={styles.problem}>{t("ecg.mark.full", { count: MAX_MARKS })}</p>}
    </aside>
  );
}

function CaliperPart({ tools, sampleRateMhz, isFiltered, isConnected }: ToolPanelProps) {
  const { t } = useTranslation();
  const { legs } = tools;
  const measured = legs?.to == null ? null : caliperText(legs.from, legs.to);
  return (
    <>
      {measured === null ? (
        <p className={styles.ask}>{t(legs === null ? "ecg.caliper.first" : "ecg.caliper.second")}</p>
      ) : (
        <output className={styles.result} data-testid="caliper-result">
          {measured}
        </output>
      )}
      <Fineprint sampleRateMhz={sampleRateMhz} isFiltered={isFiltered} />
      <div className={styles.actions}>
        <Switch
          size="sm"
          label={t("ecg.caliper.march")}
          checked={tools.hasMarch}
          onChange={(event) => tools.setMarch(event.currentTarget.checked)}
        />
        <Button size="compact-sm" variant="default" disabled={legs === null} onClick={() => tools.setLegs(null)}>
          {t("ecg.caliper.clear")}
        </Button>
        <Button
          size="compact-sm"
          disabled={legs?.isFixed !== true || !isConnected}
          onClick={tools.shareLegs}
          data-testid="caliper-share"
        >
          {t("ecg.caliper.share")}
        </Button>
      </div>
    </>
  );
}

function Fineprint({ sampleRateMhz, isFiltered }: { sampleRateMhz: number; isFiltered: boolean }) {
  const { t } = useTranslation();
  const ms = resolutionMs(sampleRateMhz);
  return (
    <p className={styles.fine}>
      {t("ecg.caliper.resolution", { ms: Number.isInteger(ms) ? ms : ms.toFixed(1) })}
      {isFiltered && <> · {t("ecg.caliper.filtered")}</>}
    </p>
  );
}

function QtPart(props: ToolPanelProps) {
  const { t } = useTranslation();
  const { tools, isConnected } = props;
  const { legs, beats, rrMs } = tools;
  const qtMs = legs?.to != null && legs.isFixed ? measure(legs.from, legs.to).ms : null;
  const beat: QtBeat | null = qtMs !== null && rrMs !== null ? { qtMs, rrMs } : null;
  const problem = beat === null ? null : qtProblem(beat);
  const ask = qtMs === null ? t(legs === null ? "ecg.qt.onset" : "ecg.qt.end") : null;
  return (
    <>
      <strong className={styles.title}>{t("ecg.qt.title")}</strong>
      {ask !== null && <p className={styles.ask}>{ask}</p>}
      <div className={styles.pair}>
        <List
          label={t("ecg.qt.formula")}
          values={QT_FORMULAS}
          value={tools.formula}
          name={(formula) => FORMULA_NAMES[formula]}
          onChange={tools.setFormula}
        />
        {qtMs !== null && <RrField tools={tools} qtMs={qtMs} />}
      </div>
      {problem !== null && <p className={styles.problem}>{t(`ecg.qt.problems.${problem}`)}</p>}
      <Beats tools={tools} />
      <QtResult beats={beat !== null && problem === null ? [...beats, beat] : beats} tools={tools} />
      <Fineprint {...props} />
      <div className={styles.actions}>
        <Button
          size="compact-sm"
          variant="default"
          disabled={beat === null || problem !== null}
          onClick={tools.addBeat}
          data-testid="qt-add"
        >
          {t("ecg.qt.add")}
        </Button>
        <Button
          size="compact-sm"
          disabled={beat === null || problem !== null || !isConnected}
          onClick={tools.shareLegs}
          data-testid="qt-share"
        >
          {t("ecg.qt.share")}
        </Button>
      </div>
    </>
  );
}

function RrField({ tools, qtMs }: { tools: Tools; qtMs: number }) {
  const { t } = useTranslation();
  const { rrMs, isRrComputed, caliperMs } = tools;
  // While somebody types, his words; else the RR that counts, wherever it came from.
  const [typed, setTyped] = useState<string | null>(null);
  const counting = rrMs === null ? "" : String(Math.round(rrMs));
  const change = (text: string): void => {
    const value = Number(text.replace(",", "."));
    setTyped(text);
    tools.setRr(text.trim() !== "" && Number.isFinite(value) && value > 0 ? value : null);
  };
  return (
    <div className={styles.rr}>
      <TextInput
        size="xs"
        label={t("ecg.qt.rr")}
        inputMode="decimal"
        value={typed ?? counting}
        onChange={(event) => change(event.currentTarget.value)}
        onBlur={() => setTyped(null)}
        data-testid="qt-rr"
      />
      <span className={styles.fine}>
        {rrMs === null ? t("ecg.qt.rrMissing") : isRrComputed ? t("ecg.qt.rrComputed") : ""}
      </span>
      {rrMs === null && caliperMs !== null && caliperMs > qtMs && (
        <Button size="compact-xs" variant="default" onClick={() => tools.setRr(caliperMs)}>
          {t("ecg.qt.useCaliper", { ms: Math.round(caliperMs) })}
        </Button>
      )}
    </div>
  );
}

function Beats({ tools }: { tools: Tools }) {
  const { t } = useTranslation();
  if (tools.beats.length === 0) return null;
  return (
    <ol className={styles.beats}>
      {tools.beats.map((beat, index) => (
        <li key={index}>
          {t("ecg.qt.beat", { number: index + 1, qt: Math.round(beat.qtMs), rr: Math.round(beat.rrMs) })}
          <CloseButton
            size="xs"
            aria-label={t("ecg.qt.remove", { number: index + 1 })}
            onClick={() => tools.removeBeat(index)}
          />
        </li>
      ))}
    </ol>
  );
}

/** Never a QTc without its formula and RR. */
function QtResult({ beats, tools }: { beats: readonly QtBeat[]; tools: Tools }) {
  const { t } = useTranslation();
  const reading = readQt(beats, tools.formula);
  if (reading === null) return <p className={styles.fine}>{t("ecg.qt.none")}</p>;
  return (
    <output className={styles.result} data-testid="qt-result">
      {t("ecg.qt.result", { qtc: Math.round(reading.qtcMs) })}
      <span className={styles.detail}>
        {t("ecg.qt.resultDetail", {
          formula: FORMULA_NAMES[reading.formula],
          count: reading.beats,
          qt: Math.round(reading.qtMs),
          rr: Math.round(reading.rrMs),
          bpm: Math.round(60_000 / reading.rrMs),
        })}
      </span>
      {isBazettDoubtful(reading) && <span className={styles.warning}>{t("ecg.qt.bazett")}</span>}
    </output>
  );
}

function WordsPart({ tools, isConnected, kind }: ToolPanelProps & { kind: "marker" | "note" }) {
  const { t } = useTranslation();
  const [text, setText] = useState("");
  if (tools.place === null) return <p className={styles.ask}>{t(`ecg.mark.${kind}`)}</p>;
  const put = (event: FormEvent): void => {
    event.preventDefault();
    tools.shareText(text);
    setText("");
  };
  return (
    <form className={styles.form} onSubmit={put}>
      <TextInput
        size="sm"
        label={t(kind === "note" ? "ecg.mark.noteText" : "ecg.mark.markText")}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
        maxLength={MAX_TEXT}
        required={kind === "note"}
        data-autofocus
        autoComplete="off"
        data-testid="mark-text"
      />
      <div className={styles.actions}>
        <Button size="compact-sm" variant="default" onClick={() => tools.setPlace(null)}>
          {t("ecg.mark.cancel")}
        </Button>
        <Button
          size="compact-sm"
          type="submit"
          disabled={!isConnected || (kind === "note" && text.trim() === "")}
          data-testid="mark-put"
        >
          {t("ecg.mark.put")}
        </Button>
      </div>
    </form>
  );
}
