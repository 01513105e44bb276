/**
 * Measuring a display, once: with a ruler on two bars, or with a card in an outline (W27).
 *
 * Both directions are measured, since a TV may stretch its picture; a frame along the
 * window's edges shows overscan. What comes out is kept by `calibration.ts`.
 */

import { Alert, Button, Modal, Portal, SegmentedControl, TextInput } from "@mantine/core";
import { type SubmitEvent, useState } from "react";
import styles from "./CalibrationDialog.module.css";
import {
  ASPECT_TOLERANCE,
  currentCalibration,
  isPlausible,
  removeCalibration,
  storeCalibration,
  UNCALIBRATED,
} from "./calibration";
import { CALIBRATION_WORDS, type CalibrationWords } from "./calibrationWords";
import { dateText } from "./overlay";
import type { EcgLanguage } from "./words";

export interface CalibrationDialogProps {
  readonly lang: EcgLanguage;
  readonly onClose: () => void;
}

type Method = "ruler" | "card";

/** ISO/IEC 7810 ID-1. */
const CARD_MM = [85.6, 53.98] as const;
const STEP_PX = 0.25;
const BAR_PX = 400;
/** What a dialog takes beside its content. */
const SIDE_PX = 72;

export function CalibrationDialog({ lang, onClose }: CalibrationDialogProps): React.JSX.Element {
  const words = CALIBRATION_WORDS[lang];
  const [known] = useState(currentCalibration);
  const [method, setMethod] = useState<Method>("ruler");
  const [label, setLabel] = useState(known?.label ?? "");
  const bars = useState(barLengths)[0];
  const [typed, setTyped] = useState({ across: "", down: "" });
  const [card, setCard] = useState(() => cardSize(known?.pxPerMmX, known?.pxPerMmY));
  const [isAsked, setAsked] = useState(false);
  const [isRefused, setRefused] = useState(false);
  const measured = method === "ruler" ? byRuler(bars, typed) : byCard(card);
  const stretch = measured === null ? 0 : Math.abs(measured.x / measured.y - 1);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    setAsked(true);
    if (measured === null) return;
    try {
      storeCalibration(measured.x, measured.y, label.trim());
      onClose();
    } catch {
      setRefused(true);
    }
  };
  const remove = (): void => {
    removeCalibration();
    onClose();
  };
  const since = known === null ? words.notNow : words.now(known.label, dateText(1000 * known.measuredAtMs));
  return (
    <Modal opened onClose={onClose} size="xl" title={words.title} closeButtonProps={{ "aria-label": words.close }}>
      {/* Outside the dialog, which is moved by a transform: "fixed" would mean its box. */}
      <Portal>
        <div className={styles.edges} aria-hidden="true" />
      </Portal>
      <form className={styles.form} onSubmit={submit} noValidate data-testid="calibration">
        <p className={styles.text}>{words.why}</p>
        <p className={styles.text} data-testid="calibration-now">
          {since}
        </p>
        <p className={styles.hint}>{words.overscan}</p>
        <SegmentedControl
          aria-label={words.method}
          data={[
            { value: "ruler", label: words.ruler },
            { value: "card", label: words.card },
          ]}
          value={method}
          onChange={(value) => setMethod(value === "card" ? "card" : "ruler")}
        />
        {method === "ruler" ? (
          <Ruler words={words} bars={bars} typed={typed} onType={setTyped} isAsked={isAsked} />
        ) : (
          <Card words={words} card={card} onSize={setCard} />
        )}
        <TextInput
          label={words.label}
          description={words.labelHint}
          value={label}
          maxLength={40}
          onChange={(event) => setLabel(event.currentTarget.value)}
        />
        {stretch > ASPECT_TOLERANCE && (
          <Alert color="yellow" data-testid="calibration-stretched">
            {words.stretched(Math.round(100 * stretch))}
          </Alert>
        )}
        {isRefused && <Alert color="red">{words.notKept}</Alert>}
        <div className={styles.actions}>
          {known !== null && (
            <Button variant="default" onClick={remove} data-testid="calibration-remove">
              {words.remove}
            </Button>
          )}
          <span className={styles.space} />
          <Button variant="default" onClick={onClose}>
            {words.cancel}
          </Button>
          <Button type="submit" data-testid="calibration-save">
            {words.save}
          </Button>
        </div>
      </form>
    </Modal>
  );
}

interface Typed {
  readonly across: string;
  readonly down: string;
}

interface RulerProps {
  readonly words: CalibrationWords;
  readonly bars: Size;
  readonly typed: Typed;
  readonly onType: (typed: Typed) => void;
  readonly isAsked: boolean;
}

function Ruler({ words, bars, typed, onType, isAsked }: RulerProps): React.JSX.Element {
  const field = (name: keyof Typed, label: string, px: number): React.JSX.Element => (
    <TextInput
      label={label}
      inputMode="decimal"
      autoComplete="off"
      rightSection={words.mm}
      data-testid={`calibration-${name}`}
      value={typed[name]}
      error={isAsked && pxPerMm(px, typed[name]) === null ? words.wrong : null}
      onChange={(event) => onType({ ...typed, [name]: event.currentTarget.value })}
    />
  );
  return (
    <div className={styles.measure}>
      <p className={styles.text}>{words.rulerHint}</p>
      <div className={styles.across} style={{ width: bars.x }} aria-hidden="true" />
      <div className={styles.row}>
        <div className={styles.down} style={{ height: bars.y }} aria-hidden="true" />
        <div className={styles.fields}>
          {field("across", words.across, bars.x)}
          {field("down", words.down, bars.y)}
        </div>
      </div>
    </div>
  );
}

interface CardProps {
  readonly words: CalibrationWords;
  readonly card: CardSize;
  readonly onSize: (card: CardSize) => void;
}

function Card({ words, card, onSize }: CardProps): React.JSX.Element {
  const change = (name: "x" | "y", by: number): void =>
    onSize({ ...card, [name]: Math.min(MAX_CARD_PX, Math.max(40, card[name] + by)) });
  const edge = (name: "x" | "y", label: string): React.JSX.Element => (
    <div className={styles.edge}>
      <span className={styles.edgeName}>{label}</span>
      <Button variant="default" aria-label={`${label}: ${words.smaller}`} onClick={() => change(name, -STEP_PX)}>
        −
      </Button>
      <input
        type="range"
        className={styles.slider}
        aria-label={label}
        data-testid={`calibration-card-${name}`}
        min={40}
        max={MAX_CARD_PX}
        step={STEP_PX}
        value={card[name]}
        onChange={(event) => onSize({ ...card, [name]: Number(event.currentTarget.value) })}
      />
      <Button variant="default" aria-label={`${label}: ${words.larger}`} onClick={() => change(name, STEP_PX)}>
        +
      </Button>
    </div>
  );
  return (
    <div className={styles.measure}>
      <p className={styles.text}>{words.cardHint}</p>
      {edge("x", words.width)}
      {edge("y", words.height)}
      <div className={styles.cardRoom}>
        <div className={styles.card} style={{ width: card.x, height: card.y }} aria-hidden="true" />
      </div>
    </div>
  );
}

interface Size {
  readonly x: number;
  readonly y: number;
}

/** `isUpright`: on a narrow screen the card is held on its short side. */
interface CardSize extends Size {
  readonly isUpright: boolean;
}

const MAX_CARD_PX = 1400;

/** Whole pixels that fit into the window, as long as possible: the longer, the smaller the reading error. */
function barLengths(): Size {
  const { innerWidth, innerHeight } = window;
  return {
    x: Math.min(BAR_PX, Math.max(120, Math.floor(innerWidth - SIDE_PX))),
    y: Math.min(0.75 * BAR_PX, Math.max(120, Math.floor(0.4 * innerHeight))),
  };
}

function cardSize(knownX: number | undefined, knownY: number | undefined): CardSize {
  const x = knownX ?? UNCALIBRATED.pxPerMmX;
  const y = knownY ?? UNCALIBRATED.pxPerMmY;
  const isUpright = window.innerWidth - SIDE_PX < CARD_MM[0] * x;
  const [width, height] = isUpright ? [CARD_MM[1], CARD_MM[0]] : CARD_MM;
  return { x: width * x, y: height * y, isUpright };
}

function byCard({ x, y, isUpright }: CardSize): Size | null {
  const [width, height] = isUpright ? [CARD_MM[1], CARD_MM[0]] : CARD_MM;
  const size = { x: x / width, y: y / height };
  return isPlausible(size.x) && isPlausible(size.y) ? size : null;
}

function byRuler(bars: Size, typed: Typed): Size | null {
  const x = pxPerMm(bars.x, typed.across);
  const y = pxPerMm(bars.y, typed.down);
  return x === null || y === null ? null : { x, y };
}

/** Null when what was typed is no length that this bar could have. */
function pxPerMm(px: number, typedMm: string): number | null {
  const mm = Number(typedMm.trim().replace(",", "."));
  const ratio = px / mm;
  return typedMm.trim() !== "" && Number.isFinite(ratio) && isPlausible(ratio) ? ratio : null;
}
