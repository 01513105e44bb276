/**
 * The desk's controls: what one sends on the left, the consult in the middle, leaving on the right.
 *
 * On a phone the first three and Leave stay; the rest folds into More. While there is no connection the controls are
 * disabled but stay where they are; microphone and camera go on working, they are this computer's own.
 */
import { Menu } from "@mantine/core";
import {
  Check,
  ChevronUp,
  ClipboardList,
  Crown,
  Ellipsis,
  FileDown,
  Keyboard,
  LayoutGrid,
  LogOut,
  Mic,
  MicOff,
  MonitorOff,
  MonitorUp,
  UserPlus,
  Video,
  VideoOff,
} from "lucide-react";
import { type ComponentProps, type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { type DeviceList, listDevices } from "../media/devices";
import type { LocalKind, LocalState } from "../media/local";
import type { Participant } from "../protocol";
import { LAYOUTS, type LayoutName } from "./layouts";
import styles from "./Toolbar.module.css";

export interface ToolbarProps {
  title: string;
  local: LocalState;
  isConnected: boolean;
  isLeading: boolean;
  leadName: string | null;
  possibleLeads: readonly Participant[];
  layout: LayoutName;
  reportCopied: boolean;
  onToggle: (kind: LocalKind) => void;
  onDevice: (kind: "camera" | "microphone", deviceId: string) => void;
  onLayout: (layout: LayoutName) => void;
  onTakeLead: () => void;
  onHandLead: (to: string) => void;
  onOpenPatient: () => void;
  onInvite: () => void;
  onShortcuts: () => void;
  onReport: () => void;
  onLeave: () => void;
}

export function Toolbar(props: ToolbarProps) {
  const { t } = useTranslation();
  const { local } = props;
  return (
    <nav className={styles.bar} aria-label={t("desk.tools.label")}>
      <p className={styles.title} title={props.title}>
        {props.title}
      </p>
      <div className={styles.group}>
        <DeviceTool {...props} kind="microphone" />
        <DeviceTool {...props} kind="camera" />
        <Tool
          testId="btn-share"
          icon={local.screen.on ? <MonitorOff /> : <MonitorUp />}
          label={local.screen.on ? t("desk.tools.unshare") : t("desk.tools.share")}
          tone={local.screen.on ? "active" : "plain"}
          aria-pressed={local.screen.on}
          onClick={() => props.onToggle("screen")}
        />
      </div>
      <div className={`${styles.group} ${styles.wide}`}>
        <LeadTool {...props} />
        <Tool
          testId="btn-open-patient"
          icon={<ClipboardList />}
          label={t("desk.tools.openPatient")}
          disabled={!props.isConnected}
          onClick={props.onOpenPatient}
        />
        <Tool
          testId="btn-invite"
          icon={<UserPlus />}
          label={t("desk.tools.invite")}
          disabled={!props.isConnected}
          onClick={props.onInvite}
        />
        <LayoutTool {...props} />
      </div>
      <div className={styles.group}>
        <MoreTool {...props} />
        <Tool
          testId="btn-leave"
          icon={<LogOut />}
          label={t("desk.tools.leave")}
          tone="danger"
          onClick={props.onLeave}
        />
      </div>
    </nav>
  );
}

interface ToolProps extends ComponentProps<"button"> {
  testId: string;
  icon: ReactNode;
  label: string;
  tone?: "plain" | "active" | "off" | "danger";
  leading?: boolean;
}

/** A menu that uses it as its target adds a ref, handlers and aria attributes of its own. */
function Tool({ testId, icon, label, tone = "plain", leading, className, ...rest }: ToolProps) {
  return (
    <button
      type="button"
      {...rest}
      className={className === undefined ? styles.tool : `${styles.tool} ${className}`}
      data-testid={testId}
      data-tone={tone}
      data-leading={leading}
    >
      {icon}
      <span className={styles.label}>{label}</span>
    </button>
  );
}

/** Microphone or camera: the switch, and beside it the choice of device. */
function DeviceTool({ kind, local, onToggle, onDevice }: ToolbarProps & { kind: "microphone" | "camera" }) {
  const { t } = useTranslation();
  const [devices, setDevices] = useState<DeviceList | null>(null);
  const { on, track, problem, busy } = local[kind];
  const inUse = track?.getSettings().deviceId;
  const isMicrophone = kind === "microphone";
  const label = isMicrophone
    ? t(on ? "desk.tools.mute" : "desk.tools.unmute")
    : t(on ? "desk.tools.cameraOff" : "desk.tools.cameraOn");
  const icon = isMicrophone ? on ? <Mic /> : <MicOff /> : on ? <Video /> : <VideoOff />;
  const list = async (): Promise<void> => {
    try {
      setDevices(await listDevices());
    } catch {
      // Without a secure context there is nothing to list; the tile says why when it is switched on.
      setDevices({ camera: [], microphone: [], speaker: [] });
    }
  };
  return (
    <div className={styles.split} data-problem={problem !== null}>
      <Tool
        testId={isMicrophone ? "btn-mute" : "btn-camera"}
        icon={icon}
        label={label}
        tone={on ? "plain" : "off"}
        aria-pressed={on}
        disabled={busy}
        onClick={() => onToggle(kind)}
      />
      <Menu position="top-start" onOpen={() => void list()} withinPortal>
        <Menu.Target>
          <button
            type="button"
            className={styles.chevron}
            aria-label={t(isMicrophone ? "desk.tools.chooseMicrophone" : "desk.tools.chooseCamera")}
          >
            <ChevronUp aria-hidden="true" />
          </button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label>{t(isMicrophone ? "desk.tools.chooseMicrophone" : "desk.tools.chooseCamera")}</Menu.Label>
          {(devices?.[kind] ?? []).map((device) => (
            <Menu.Item
              key={device.deviceId}
              leftSection={device.deviceId === inUse ? <Check size={16} /> : <span className={styles.noCheck} />}
              onClick={() => onDevice(kind, device.deviceId)}
            >
              {device.label || device.deviceId.slice(0, 8)}
            </Menu.Item>
          ))}
          {devices?.[kind].length === 0 && <Menu.Item disabled>{t("desk.tools.noDevices")}</Menu.Item>}
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}

/** Takes the lead with one click; the one who leads gets a list to hand it over. */
function LeadTool(props: ToolbarProps) {
  const { t } = useTranslation();
  const { isLeading, isConnected, leadName } = props;
  if (!isLeading) {
    return (
      <Tool
        testId="btn-lead"
        icon={<Crown />}
        label={t("desk.tools.takeLead")}
        disabled={!isConnected}
        leading={false}
        onClick={props.onTakeLead}
        {...(leadName === null ? {} : { title: t("desk.tools.follows", { name: leadName }) })}
      />
    );
  }
  return (
    <Menu position="top" withinPortal>
      <Menu.Target>
        <Tool
          testId="btn-lead"
          icon={<Crown />}
          label={t("desk.tools.leading")}
          tone="active"
          disabled={!isConnected}
          leading
        />
      </Menu.Target>
      <Menu.Dropdown>
        <HandLeadItems {...props} />
      </Menu.Dropdown>
    </Menu>
  );
}

function HandLeadItems({ possibleLeads, onHandLead }: ToolbarProps) {
  const { t } = useTranslation();
  return (
    <>
      <Menu.Label>{t("desk.tools.handLead")}</Menu.Label>
      {possibleLeads.map((person) => (
        <Menu.Item key={person.id} onClick={() => onHandLead(person.id)}>
          {person.name}
        </Menu.Item>
      ))}
      {possibleLeads.length === 0 && <Menu.Item disabled>{t("desk.tools.nobodyElse")}</Menu.Item>}
    </>
  );
}

function LayoutTool({ layout, onLayout }: ToolbarProps) {
  const { t } = useTranslation();
  return (
    <Menu position="top" withinPortal>
      <Menu.Target>
        <Tool testId="btn-layout" icon={<LayoutGrid />} label={t("desk.tools.layout")} />
      </Menu.Target>
      <Menu.Dropdown>
        {LAYOUTS.map((name) => (
          <Menu.Item
            key={name}
            leftSection={name === layout ? <Check size={16} /> : <span className={styles.noCheck} />}
            onClick={() => onLayout(name)}
          >
            {t(`desk.layout.${name}`)}
          </Menu.Item>
        ))}
        <Menu.Label className={styles.note}>{t("desk.layout.reset")}</Menu.Label>
      </Menu.Dropdown>
    </Menu>
  );
}

/** What does not fit a phone, and what is seldom needed. */
function MoreTool(props: ToolbarProps) {
  const { t } = useTranslation();
  const { isConnected, isLeading } = props;
  return (
    <Menu position="top-end" withinPortal>
      <Menu.Target>
        <Tool testId="btn-more" icon={<Ellipsis />} label={t("desk.tools.more")} />
      </Menu.Target>
      <Menu.Dropdown>
        <div className={styles.narrow}>
          <Menu.Item leftSection={<ClipboardList size={16} />} disabled={!isConnected} onClick={props.onOpenPatient}>
            {t("desk.tools.openPatient")}
          </Menu.Item>
          <Menu.Item leftSection={<UserPlus size={16} />} disabled={!isConnected} onClick={props.onInvite}>
            {t("desk.tools.invite")}
          </Menu.Item>
          {isLeading ? (
            <HandLeadItems {...props} />
          ) : (
            <Menu.Item leftSection={<Crown size={16} />} disabled={!isConnected} onClick={props.onTakeLead}>
              {t("desk.tools.takeLead")}
            </Menu.Item>
          )}
          <Menu.Divider />
        </div>
        <Menu.Item leftSection={<Keyboard size={16} />} onClick={props.onShortcuts}>
          {t("desk.tools.shortcuts")}
        </Menu.Item>
        <Menu.Item leftSection={<FileDown size={16} />} onClick={props.onReport} closeMenuOnClick={false}>
          {props.reportCopied ? t("desk.tools.reportCopied") : t("desk.tools.report")}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
