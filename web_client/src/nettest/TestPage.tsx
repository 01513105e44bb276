/**
 * Does this network let a consult through? Six steps, each named with port and direction, and a report for IT.
 *
 * Anybody may open it; what needs a media path of one's own is tested for people who are signed in.
 */
import { Button } from "@mantine/core";
import {
  ArrowLeft,
  Ban,
  CircleCheck,
  CircleDashed,
  CircleHelp,
  CircleMinus,
  Download,
  LoaderCircle,
  type LucideIcon,
  Play,
  TriangleAlert,
} from "lucide-react";
import { useCallback, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useHttp } from "../common/http";
import { useSession } from "../common/queries";
import { loginPath } from "../home/routes";
import { probe } from "./probe";
import styles from "./TestPage.module.css";
import { conclude, fresh, report, STEPS, type Step, type StepState } from "./verdict";

const ICONS: Record<StepState, LucideIcon> = {
  waiting: CircleDashed,
  running: LoaderCircle,
  good: CircleCheck,
  slow: TriangleAlert,
  blocked: Ban,
  absent: CircleMinus,
  skipped: CircleMinus,
  failed: CircleHelp,
};

const UNTESTED = STEPS.map(fresh);

export default function TestPage() {
  const { t } = useTranslation();
  const session = useSession();
  const isSignedIn = session.data !== undefined && session.data !== null;
  const { steps, isRunning, picture, start } = useProbe(isSignedIn);
  const isDone = !isRunning && steps !== UNTESTED;
  const conclusion = conclude(steps);
  return (
    <div className={styles.page}>
      <a className={styles.back} href="/" onClick={goBack}>
        <ArrowLeft size={18} aria-hidden="true" /> {t("nettest.back")}
      </a>
      <h1 className={styles.title}>{t("nettest.title")}</h1>
      <p className={styles.lead}>{t("nettest.lead")}</p>
      <div className={styles.conclusion} data-testid="nettest-conclusion" data-conclusion={conclusion} role="status">
        {isDone && <strong>{t(`nettest.conclusion.${conclusion}`)}</strong>}
        {isDone && conclusion === "sign_in" && <a href={loginPath("/test")}>{t("nettest.signIn")}</a>}
      </div>
      <ol className={styles.steps}>
        {steps.map((step) => (
          <StepRow key={step.id} step={step} isSignedIn={isSignedIn}>
            {step.id === "media" && isRunning && picture !== null && <Picture track={picture} />}
          </StepRow>
        ))}
      </ol>
      <div className={styles.actions}>
        <Button
          size="md"
          onClick={start}
          disabled={isRunning || session.isPending}
          leftSection={<Play size={17} aria-hidden="true" />}
          data-testid="nettest-start"
        >
          {t(isRunning ? "nettest.running" : isDone ? "nettest.again" : "nettest.start")}
        </Button>
        {isDone && (
          <Button
            size="md"
            variant="default"
            onClick={() => download(steps)}
            leftSection={<Download size={17} aria-hidden="true" />}
            data-testid="nettest-download"
          >
            {t("nettest.download")}
          </Button>
        )}
      </div>
      {isDone && <p className={styles.hint}>{t("nettest.downloadHint")}</p>}
    </div>
  );
}

function StepRow({ step, isSignedIn, children }: { step: Step; isSignedIn: boolean; children: React.ReactNode }) {
  const { t } = useTranslation();
  const { id, state, target, ms, lostPercent } = step;
  const named = id === "latency" ? null : target;
  const Icon = ICONS[state];
  const words = { protocol: target?.protocol, port: target?.port, hosts: target?.hosts.join(", "), code: step.code };
  const advice = adviceOf(step, isSignedIn);
  return (
    <li className={styles.step} data-testid={`nettest-${id}`} data-state={state}>
      <Icon className={styles.icon} aria-hidden="true" />
      <div className={styles.what}>
        <span className={styles.name}>{t(`nettest.steps.${id}`)}</span>
        {named !== null && <span className={styles.target}>{t("nettest.target", words)}</span>}
        {advice !== null && <span className={styles.advice}>{t(`nettest.advice.${advice}`, words)}</span>}
        {children}
      </div>
      <span className={styles.state}>
        {t(`nettest.state.${state}`)}
        {ms !== null && <span className={styles.figure}>{t("nettest.ms", { ms })}</span>}
        {lostPercent !== null && lostPercent > 0 && (
          <span className={styles.figure}>{t("nettest.lost", { percent: lostPercent })}</span>
        )}
      </span>
    </li>
  );
}

/** The sentence for a step that needs one. */
function adviceOf({ id, state }: Step, isSignedIn: boolean) {
  if (state === "failed") return "failed" as const;
  if (state === "blocked" && id !== "latency") return id;
  if (state === "slow") return id === "latency" ? ("slowLatency" as const) : ("slowMedia" as const);
  return state === "skipped" && id === "udp" && !isSignedIn ? ("signIn" as const) : null;
}

function Picture({ track }: { track: MediaStreamTrack }) {
  const { t } = useTranslation();
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (video.current !== null) video.current.srcObject = new MediaStream([track]);
  }, [track]);
  return <video ref={video} className={styles.picture} autoPlay muted playsInline aria-label={t("nettest.picture")} />;
}

function useProbe(isSignedIn: boolean) {
  const http = useHttp();
  const [steps, setSteps] = useState<readonly Step[]>(UNTESTED);
  const [isRunning, setRunning] = useState(false);
  const [picture, setPicture] = useState<MediaStreamTrack | null>(null);
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);
  const start = useCallback(async (): Promise<void> => {
    const controller = new AbortController();
    stop.current = controller;
    setSteps([...UNTESTED]);
    setPicture(null);
    setRunning(true);
    await probe({
      http,
      isSignedIn,
      onStep: (step) => setSteps((before) => before.map((one) => (one.id === step.id ? step : one))),
      onPicture: setPicture,
      signal: controller.signal,
    });
    if (!controller.signal.aborted) setRunning(false);
  }, [http, isSignedIn]);
  return { steps, isRunning, picture, start: () => void start() };
}

/** To where the person came from, for instance the device check of a consult. */
function goBack(event: React.MouseEvent): void {
  if (window.history.length <= 1) return;
  event.preventDefault();
  window.history.back();
}

function download(steps: readonly Step[]): void {
  const page = { origin: window.location.origin, browser: navigator.userAgent, at: new Date().toISOString() };
  const url = URL.createObjectURL(new Blob([report(steps, page)], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: "consilium-network-test.json" });
  link.click();
  URL.revokeObjectURL(url);
}
