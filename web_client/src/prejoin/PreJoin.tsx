/**
 * Before the consult: see yourself, see your voice, hear the loudspeaker, and join with whatever works.
 *
 * Camera and microphone are asked for separately and neither is needed. What is wrong is told in four different ways,
 * because the person can do four different things about it.
 */
import { Button, Select } from "@mantine/core";
import { ArrowLeft, Gauge, Mic, MicOff, TriangleAlert, Video, VideoOff, Volume2 } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { ConsultPacks } from "../casepack/PackLine";
import type { ConsultCard } from "../common/api";
import type { DeviceList, DeviceProblem } from "../media/devices";
import { playTestTone, watchLevel } from "../media/level";
import styles from "./PreJoin.module.css";
import { type Input, isWanted, useInputs } from "./useInputs";

/** What a device has come to when its person joins. */
export interface JoinInput {
  readonly track: MediaStreamTrack | null;
  /** It was asked for and has not answered: it goes on in the consult. */
  readonly isOpening: boolean;
}

export interface JoinInputs {
  readonly camera: JoinInput;
  readonly microphone: JoinInput;
}

export function PreJoin({
  consult,
  onJoin,
}: {
  consult: ConsultCard | undefined;
  onJoin: (inputs: JoinInputs) => void;
}) {
  const { t } = useTranslation();
  const inputs = useInputs();
  const { camera, microphone, devices } = inputs;
  const [isJoining, setJoining] = useState(false);
  const join = (): void => {
    setJoining(true);
    onJoin(inputs.take());
  };
  const problems = [problemOf("camera", camera.problem), problemOf("microphone", microphone.problem)].flatMap(
    (p) => p ?? [],
  );
  const shown = problems.filter(
    (problem, index) => problems.findIndex(({ title }) => title === problem.title) === index,
  );
  return (
    <main className={styles.page}>
      <div className={styles.card}>
        <header className={styles.head}>
          <a className={styles.back} href="/">
            <ArrowLeft size={18} aria-hidden="true" /> {t("prejoin.back")}
          </a>
          <h1 className={styles.title}>{consult?.title ?? t("prejoin.title")}</h1>
          {consult !== undefined && (
            <p className={styles.where}>
              {[consult.hub, consult.room, consult.partner].filter((part) => part !== "").join(" · ")}
            </p>
          )}
        </header>
        <Preview camera={camera} onToggle={inputs.toggle} microphone={microphone} />
        <div className={styles.side}>
          <Devices inputs={inputs} devices={devices} />
          {shown.map(({ title, help }) => (
            <div className={styles.problem} key={title} role="status" data-testid="device-problem">
              <TriangleAlert size={20} aria-hidden="true" />
              <div>
                <strong>{t(title)}</strong>
                <p>{t(help)}</p>
              </div>
            </div>
          ))}
          {consult !== undefined && <ConsultPacks consult={consult.id} patients={consult.patients} />}
          <div className={styles.join}>
            <Button size="lg" fullWidth onClick={join} loading={isJoining} data-testid="prejoin-join" data-autofocus>
              {t("prejoin.join")}
            </Button>
            <p className={styles.anyway}>{t("prejoin.joinAnyway")}</p>
            <a className={styles.test} href="/test" data-testid="link-nettest">
              <Gauge size={17} aria-hidden="true" /> {t("nettest.link")}
            </a>
          </div>
        </div>
      </div>
    </main>
  );
}

type ToggleProps = { camera: Input; microphone: Input; onToggle: (kind: "camera" | "microphone") => void };

function Preview({ camera, microphone, onToggle }: ToggleProps) {
  const { t } = useTranslation();
  const video = useRef<HTMLVideoElement>(null);
  const { track } = camera;
  useEffect(() => {
    if (video.current === null) return;
    video.current.srcObject = track === null ? null : new MediaStream([track]);
  }, [track]);
  return (
    <div className={styles.preview}>
      <video ref={video} autoPlay muted playsInline hidden={track === null} aria-label={t("prejoin.preview")} />
      {track === null && (
        <p className={styles.noPicture}>
          <VideoOff size={40} aria-hidden="true" />
          {t(camera.busy ? "prejoin.opening" : "prejoin.previewOff")}
        </p>
      )}
      <div className={styles.switches}>
        <Switch
          isOn={isWanted(microphone)}
          label={t(isWanted(microphone) ? "prejoin.microphoneOff" : "prejoin.microphoneOn")}
          testId="prejoin-microphone"
          onClick={() => onToggle("microphone")}
        >
          {isWanted(microphone) ? <Mic /> : <MicOff />}
        </Switch>
        <Switch
          isOn={isWanted(camera)}
          label={t(isWanted(camera) ? "prejoin.cameraOff" : "prejoin.cameraOn")}
          testId="prejoin-camera"
          onClick={() => onToggle("camera")}
        >
          {isWanted(camera) ? <Video /> : <VideoOff />}
        </Switch>
      </div>
    </div>
  );
}

interface SwitchProps {
  isOn: boolean;
  label: string;
  testId: string;
  onClick: () => void;
  children: React.ReactNode;
}

function Switch({ isOn, label, testId, onClick, children }: SwitchProps) {
  return (
    <button
      type="button"
      className={styles.switch}
      data-on={isOn}
      aria-pressed={isOn}
      aria-label={label}
      title={label}
      data-testid={testId}
      onClick={onClick}
    >
      {children}
    </button>
  );
}

function Devices({ inputs, devices }: { inputs: ReturnType<typeof useInputs>; devices: DeviceList }) {
  const { t } = useTranslation();
  return (
    <div className={styles.devices}>
      <DeviceSelect
        label={t("prejoin.camera")}
        list={devices.camera}
        value={inputs.camera.deviceId}
        onPick={(id) => inputs.pick("camera", id)}
      />
      <div>
        <DeviceSelect
          label={t("prejoin.microphone")}
          list={devices.microphone}
          value={inputs.microphone.deviceId}
          onPick={(id) => inputs.pick("microphone", id)}
        />
        <LevelMeter track={inputs.microphone.track} />
      </div>
      <div className={styles.speaker}>
        <DeviceSelect
          label={t("prejoin.speaker")}
          list={devices.speaker}
          value={inputs.speaker}
          empty={t("prejoin.systemSpeaker")}
          onPick={inputs.pickSpeaker}
        />
        <TestTone speaker={inputs.speaker} />
      </div>
    </div>
  );
}

interface DeviceSelectProps {
  label: string;
  list: readonly MediaDeviceInfo[];
  value: string | null;
  empty?: string;
  onPick: (deviceId: string) => void;
}

function DeviceSelect({ label, list, value, empty, onPick }: DeviceSelectProps) {
  const { t } = useTranslation();
  return (
    <Select
      label={label}
      data={list.map((device, index) => ({ value: device.deviceId, label: device.label || `${label} ${index + 1}` }))}
      value={list.some(({ deviceId }) => deviceId === value) ? value : null}
      placeholder={list.length === 0 ? (empty ?? t("prejoin.none")) : label}
      disabled={list.length === 0}
      allowDeselect={false}
      comboboxProps={{ withinPortal: true }}
      onChange={(id) => {
        if (id !== null) onPick(id);
      }}
    />
  );
}

function LevelMeter({ track }: { track: MediaStreamTrack | null }) {
  const { t } = useTranslation();
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (track === null) return;
    // Written past React: sixty renders a second for a bar would starve the rest of the page.
    return watchLevel(track, (level) => bar.current?.style.setProperty("--level", level.toFixed(3)));
  }, [track]);
  return (
    <div className={styles.level}>
      <div className={styles.meter} ref={bar} data-on={track !== null} role="img" aria-label={t("prejoin.level")} />
      <span className={styles.hint}>{t("prejoin.levelHint")}</span>
    </div>
  );
}

function TestTone({ speaker }: { speaker: string | null }) {
  const { t } = useTranslation();
  const [isPlaying, setPlaying] = useState(false);
  const play = async (): Promise<void> => {
    setPlaying(true);
    try {
      await playTestTone(speaker);
    } finally {
      setPlaying(false);
    }
  };
  return (
    <Button
      variant="default"
      disabled={isPlaying}
      onClick={() => void play()}
      leftSection={<Volume2 size={18} aria-hidden="true" />}
      data-testid="prejoin-tone"
    >
      {t(isPlaying ? "prejoin.testing" : "prejoin.test")}
    </Button>
  );
}

const PROBLEMS = {
  camera: {
    denied: ["prejoin.problem.cameraDenied", "prejoin.problem.cameraDeniedHelp"],
    missing: ["prejoin.problem.cameraMissing", "prejoin.problem.cameraMissingHelp"],
    busy: ["prejoin.problem.cameraBusy", "prejoin.problem.cameraBusyHelp"],
    insecure: ["prejoin.problem.insecure", "prejoin.problem.insecureHelp"],
    failed: ["prejoin.problem.failed", "prejoin.problem.failedHelp"],
  },
  microphone: {
    denied: ["prejoin.problem.microphoneDenied", "prejoin.problem.microphoneDeniedHelp"],
    missing: ["prejoin.problem.microphoneMissing", "prejoin.problem.microphoneMissingHelp"],
    busy: ["prejoin.problem.microphoneBusy", "prejoin.problem.microphoneBusyHelp"],
    insecure: ["prejoin.problem.insecure", "prejoin.problem.insecureHelp"],
    failed: ["prejoin.problem.failed", "prejoin.problem.failedHelp"],
  },
} as const;

/** The words for a problem; both devices share the ones that have nothing to do with the device. */
function problemOf(
  kind: "camera" | "microphone",
  problem: DeviceProblem | null,
): { title: string; help: string } | null {
  if (problem === null) return null;
  const [title, help] = PROBLEMS[kind][problem];
  return { title, help };
}
