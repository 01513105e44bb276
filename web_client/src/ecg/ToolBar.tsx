/**
 * The ECG's tools in one row; on a phone the few that cannot wait, and a sheet with all of them.
 *
 * Measuring tools are there on a moving trace too, but say why they do nothing there (W32).
 */
import { Menu, Modal, Popover, Tooltip } from "@mantine/core";
import {
  BookmarkPlus,
  Columns2,
  Download,
  EllipsisVertical,
  Flag,
  HeartPulse,
  History,
  Info,
  List,
  type LucideIcon,
  MessageSquareText,
  MousePointerClick,
  Play,
  RulerDimensionLine,
  SlidersHorizontal,
  Snowflake,
  Undo2,
  Users,
} from "lucide-react";
import { type ComponentProps, type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Tool } from "./StillLayer";
import styles from "./ToolBar.module.css";

export interface ToolBarProps {
  readonly isNarrow: boolean;
  readonly isStill: boolean;
  readonly isReview: boolean;
  readonly isConnected: boolean;
  /** A dialog lies over the page: panels make way until it is closed. */
  readonly isCovered: boolean;
  readonly tool: Tool | null;
  readonly hasPrior: boolean;
  readonly canUndo: boolean;
  readonly marksCount: number;
  /** Title and chooser of the signal. */
  readonly children: ReactNode;
  readonly display: ReactNode;
  readonly info: ReactNode;
  readonly marks: ReactNode;
  readonly onFreeze: () => void;
  readonly onLive: () => void;
  readonly onFreezeAll: () => void;
  readonly onTool: (tool: Tool | null) => void;
  readonly onUndo: () => void;
  readonly onSnapshot: () => void;
  readonly onReview: () => void;
  readonly onPrior: () => void;
  readonly onDownload: (kind: "dicom" | "wfdb") => void;
}

const TOOLS: readonly (readonly [Tool, LucideIcon])[] = [
  ["caliper", RulerDimensionLine],
  ["qt", HeartPulse],
  ["marker", Flag],
  ["note", MessageSquareText],
  ["point", MousePointerClick],
];

export function ToolBar(props: ToolBarProps) {
  const { t } = useTranslation();
  return (
    <header className={styles.bar} data-narrow={props.isNarrow} data-testid="ecg-tools">
      <div className={styles.head}>{props.children}</div>
      <div className={styles.group} role="toolbar" aria-label={t("ecg.tools.label")}>
        <FreezeTool {...props} />
        <Press
          testId="ecg-snapshot-btn"
          icon={BookmarkPlus}
          label={t("ecg.tools.snapshot")}
          hint={t("ecg.tools.snapshotHint")}
          isOff={!props.isConnected}
          onClick={props.onSnapshot}
        />
        {!props.isNarrow && <WideTools {...props} />}
      </div>
      <div className={styles.group}>{props.isNarrow ? <Sheet {...props} /> : <Panels {...props} />}</div>
    </header>
  );
}

function FreezeTool({ isStill, onFreeze, onLive }: ToolBarProps) {
  const { t } = useTranslation();
  return (
    <Press
      testId="ecg-freeze"
      icon={isStill ? Play : Snowflake}
      label={t(isStill ? "ecg.tools.release" : "ecg.tools.freeze")}
      isActive={isStill}
      onClick={isStill ? onLive : onFreeze}
    />
  );
}

function WideTools(props: ToolBarProps) {
  const { t } = useTranslation();
  return (
    <>
      <Press
        testId="ecg-freeze-all"
        icon={Users}
        label={t("ecg.tools.freezeAll")}
        hint={t("ecg.tools.freezeAllHint")}
        isOff={!props.isConnected}
        onClick={props.onFreezeAll}
      />
      <span className={styles.gap} />
      <MeasureTools {...props} />
      <span className={styles.gap} />
      <Press
        testId="ecg-review-btn"
        icon={History}
        label={t("ecg.tools.review")}
        hint={t("ecg.tools.reviewHint")}
        isActive={props.isReview}
        onClick={props.onReview}
      />
      <Press
        testId="ecg-prior-btn"
        icon={Columns2}
        label={t("ecg.tools.prior")}
        hint={t("ecg.tools.priorHint")}
        isActive={props.hasPrior}
        onClick={props.onPrior}
      />
    </>
  );
}

function MeasureTools({ tool, isStill, isNarrow, canUndo, onTool, onUndo }: ToolBarProps) {
  const { t } = useTranslation();
  return (
    <>
      {TOOLS.map(([name, icon]) => (
        <Press
          key={name}
          testId={`ecg-tool-${name}`}
          icon={icon}
          label={t(`ecg.tools.${name}`)}
          hint={isStill ? (name === "point" ? t("ecg.tools.pointHint") : undefined) : t("ecg.tools.stillOnly")}
          isActive={tool === name}
          isOff={!isStill}
          onClick={() => onTool(tool === name ? null : name)}
        />
      ))}
      <Press
        testId="ecg-undo"
        icon={Undo2}
        label={t("ecg.tools.undo")}
        isBare={!isNarrow}
        isOff={!canUndo}
        onClick={onUndo}
      />
    </>
  );
}

/** What opens a panel of its own, at the right end. */
function Panels(props: ToolBarProps) {
  const { t } = useTranslation();
  return (
    <>
      <Pop icon={List} label={t("ecg.mark.list")} testId="ecg-marks-btn" badge={props.marksCount} width={340}>
        {props.marks}
      </Pop>
      <Pop
        icon={SlidersHorizontal}
        label={t("ecg.tools.display")}
        testId="ecg-display-btn"
        hasWord
        width={460}
        isCovered={props.isCovered}
      >
        {props.display}
      </Pop>
      <Pop icon={Info} label={t("ecg.tools.info")} testId="ecg-info-btn" width={430}>
        {props.info}
      </Pop>
      <Menu position="bottom-end" withinPortal>
        <Menu.Target>
          <Press testId="ecg-download" icon={Download} label={t("ecg.tools.download")} isBare />
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item onClick={() => props.onDownload("dicom")}>{t("ecg.download.dicom")}</Menu.Item>
          <Menu.Item onClick={() => props.onDownload("wfdb")}>{t("ecg.download.wfdb")}</Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </>
  );
}

interface PopProps {
  readonly icon: LucideIcon;
  readonly label: string;
  readonly testId: string;
  readonly hasWord?: boolean;
  readonly badge?: number;
  readonly width: number;
  readonly isCovered?: boolean;
  readonly children: ReactNode;
}

/** As high as the window has room for it, and no higher. */
const FITTED = { flip: true, shift: true, size: true } as const;

function Pop({ icon, label, testId, hasWord = false, badge = 0, width, isCovered = false, children }: PopProps) {
  const [isOpen, setOpen] = useState(false);
  return (
    <Popover
      position="bottom-end"
      withinPortal
      width={width}
      trapFocus
      opened={isOpen && !isCovered}
      onChange={setOpen}
      middlewares={FITTED}
      shadow="md"
    >
      <Popover.Target>
        <Press
          testId={testId}
          icon={icon}
          label={label}
          isBare={!hasWord}
          badge={badge}
          isActive={isOpen}
          onClick={() => setOpen(!isOpen)}
        />
      </Popover.Target>
      <Popover.Dropdown className={styles.pop ?? ""}>{isOpen && children}</Popover.Dropdown>
    </Popover>
  );
}

type SheetPart = "display" | "info" | "marks";

/** Everything of the wide row, in reach of a thumb. */
function Sheet(props: ToolBarProps) {
  const { t } = useTranslation();
  const [isOpen, setOpen] = useState(false);
  const [part, setPart] = useState<SheetPart | null>(null);
  const leave = (act: () => void) => (): void => {
    setOpen(false);
    act();
  };
  const whole = { ...props, onFreezeAll: leave(props.onFreezeAll), onUndo: leave(props.onUndo) };
  return (
    <>
      <Press
        testId="ecg-more"
        icon={EllipsisVertical}
        label={t("ecg.tools.more")}
        isBare
        onClick={() => setOpen(true)}
      />
      <Modal
        opened={isOpen}
        onClose={() => {
          setOpen(false);
          setPart(null);
        }}
        title={
          part === null
            ? t("ecg.tools.more")
            : t(part === "marks" ? "ecg.mark.list" : part === "info" ? "ecg.tools.info" : "ecg.display.title")
        }
        classNames={{ inner: styles.sheetInner ?? "", content: styles.sheet ?? "" }}
        closeButtonProps={{ "aria-label": t("ecg.tools.close") }}
      >
        {part !== null ? (
          props[part]
        ) : (
          <div className={styles.sheetGrid} data-testid="ecg-sheet">
            <Press
              testId="ecg-freeze-all"
              icon={Users}
              label={t("ecg.tools.freezeAllHint")}
              isOff={!props.isConnected}
              onClick={whole.onFreezeAll}
            />
            <MeasureTools {...whole} onTool={(tool) => leave(() => props.onTool(tool))()} />
            <Press
              testId="ecg-review-btn"
              icon={History}
              label={t("ecg.tools.review")}
              onClick={leave(props.onReview)}
            />
            <Press testId="ecg-prior-btn" icon={Columns2} label={t("ecg.tools.prior")} onClick={leave(props.onPrior)} />
            <Press
              testId="ecg-marks-btn"
              icon={List}
              label={t("ecg.mark.list")}
              badge={props.marksCount}
              onClick={() => setPart("marks")}
            />
            <Press
              testId="ecg-display-btn"
              icon={SlidersHorizontal}
              label={t("ecg.tools.display")}
              onClick={() => setPart("display")}
            />
            <Press testId="ecg-info-btn" icon={Info} label={t("ecg.tools.info")} onClick={() => setPart("info")} />
            <Press
              testId="ecg-download-dicom"
              icon={Download}
              label={t("ecg.download.dicom")}
              onClick={leave(() => props.onDownload("dicom"))}
            />
            <Press
              testId="ecg-download-wfdb"
              icon={Download}
              label={t("ecg.download.wfdb")}
              onClick={leave(() => props.onDownload("wfdb"))}
            />
            {!props.isStill && <p className={styles.why}>{t("ecg.tools.stillOnly")}</p>}
          </div>
        )}
      </Modal>
    </>
  );
}

interface PressProps extends Omit<ComponentProps<"button">, "children"> {
  readonly testId: string;
  readonly icon: LucideIcon;
  readonly label: string;
  readonly hint?: string | undefined;
  readonly isActive?: boolean;
  readonly isOff?: boolean;
  /** The icon alone; its words are a tooltip. */
  readonly isBare?: boolean;
  readonly badge?: number;
}

/** A menu that uses it as its target adds a ref, handlers and aria attributes of its own. */
function Press({
  testId,
  icon: Icon,
  label,
  hint,
  isActive,
  isOff = false,
  isBare = false,
  badge = 0,
  onClick,
  ...rest
}: PressProps) {
  return (
    <Tooltip label={hint ?? label} openDelay={500} disabled={hint === undefined && !isBare} withinPortal>
      <button
        type="button"
        {...rest}
        className={styles.press}
        data-testid={testId}
        data-active={isActive}
        data-bare={isBare}
        aria-label={badge > 0 ? `${label} ${badge}` : label}
        aria-pressed={isActive}
        // Not `disabled`: its tooltip says why it does nothing, and it can be found by keys.
        aria-disabled={isOff}
        onClick={(event) => {
          if (!isOff) onClick?.(event);
        }}
      >
        <Icon aria-hidden="true" />
        {!isBare && <span className={styles.label}>{label}</span>}
        {badge > 0 && <span className={styles.badge}>{` ${badge}`}</span>}
      </button>
    </Tooltip>
  );
}
