/**
 * Every word painted on the strips, in Chinese and English.
 *
 * They are kept here and not with the page's translations because the worker paints
 * them: a safety text must not depend on the main thread or on a loaded catalogue.
 */

import { Cell } from "./leadBuffer";

export type EcgLanguage = "zh" | "en";

export const FONT =
  'system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif';

export interface EcgWords {
  readonly states: Readonly<Record<"LIVE" | "DELAYED" | "STALE" | "LOST", string>>;
  readonly seconds: string;
  readonly age: string;
  readonly simulated: string;
  readonly warning: string;
  readonly notToScale: string;
  readonly equivalent: string;
  readonly filterUnknown: string;
  readonly leadOff: string;
  readonly notSent: string;
  readonly notInSync: string;
  readonly unbound: string;
  readonly waiting: string;
  readonly noClock: string;
  readonly frozen: string;
  readonly displayStopped: string;
  readonly starting: string;
  readonly clock: string;
  readonly clockUnsynced: string;
  readonly label: string;
  /** By what a cell holds: why it is no signal, or not wholly. */
  readonly reasons: Readonly<Record<number, string>>;
  /** The same for a run too short for the word. */
  readonly shortReasons: Readonly<Record<number, string>>;
  readonly derived: string;
  readonly view: string;
  readonly filters: Readonly<Record<"monitor" | "st" | "diagnostic", string>>;
  readonly notch: string;
  readonly settling: string;
  readonly limbError: string;
  readonly still: string;
  readonly since: string;
  readonly liveGoesOn: string;
  readonly loading: string;
  readonly farView: string;
  readonly recorded: string;
}

const EN: EcgWords = {
  states: { LIVE: "LIVE", DELAYED: "DELAYED", STALE: "STALE", LOST: "LOST" },
  seconds: "s",
  age: "age",
  simulated: "SIMULATED",
  warning: "Remote display, delayed. Not for defibrillation, cardioversion, pacing or alarm use.",
  notToScale: "not to scale",
  equivalent: "equivalent",
  filterUnknown: "filter unknown",
  leadOff: "LEAD OFF",
  notSent: "not sent",
  notInSync: "NOT IN SYNC",
  unbound: "NO BOUND DEVICE",
  waiting: "waiting for the signal",
  noClock: "server time unknown",
  frozen: "trace frozen, not live",
  displayStopped: "DISPLAY STOPPED",
  starting: "The display is starting",
  clock: "clock ±",
  clockUnsynced: "source clock not synchronised",
  label: "Live ECG",
  reasons: {
    [Cell.saturated]: "SATURATED",
    [Cell.leadOff]: "LEAD OFF",
    [Cell.invalid]: "INVALID",
    [Cell.artefact]: "ARTEFACT",
    [Cell.missing]: "MISSING",
    [Cell.clipped]: "OUT OF RANGE",
    [Cell.calibration]: "CALIBRATION",
  },
  shortReasons: {
    [Cell.saturated]: "SAT",
    [Cell.leadOff]: "OFF",
    [Cell.invalid]: "INV",
    [Cell.artefact]: "ART",
    [Cell.missing]: "MISS",
    [Cell.clipped]: "SAT",
    [Cell.calibration]: "CAL",
  },
  derived: "derived",
  view: "view",
  filters: { monitor: "monitor", st: "ST", diagnostic: "diagnostic" },
  notch: "notch",
  settling: "filter settling",
  limbError: "limb leads disagree",
  still: "FROZEN",
  since: "since",
  liveGoesOn: "live goes on:",
  loading: "loading earlier samples",
  farView: "far view",
  recorded: "RECORDED",
};

const ZH: EcgWords = {
  states: { LIVE: "实时", DELAYED: "延迟", STALE: "过时", LOST: "信号丢失" },
  seconds: "秒",
  age: "时延",
  simulated: "模拟信号",
  warning: "远程显示，有延迟。不得用于除颤、电复律、起搏或报警。",
  notToScale: "未按比例校准",
  equivalent: "等效",
  filterUnknown: "滤波未知",
  leadOff: "导联脱落",
  notSent: "未发送",
  notInSync: "未同步",
  unbound: "设备未绑定",
  waiting: "等待信号",
  noClock: "服务器时间未知",
  frozen: "波形已冻结，非实时",
  displayStopped: "显示已停止",
  starting: "显示正在启动",
  clock: "时钟 ±",
  clockUnsynced: "信号源时钟未同步",
  label: "实时心电图",
  reasons: {
    [Cell.saturated]: "信号饱和",
    [Cell.leadOff]: "导联脱落",
    [Cell.invalid]: "无效",
    [Cell.artefact]: "伪差",
    [Cell.missing]: "缺失",
    [Cell.clipped]: "超出量程",
    [Cell.calibration]: "定标",
  },
  shortReasons: {
    [Cell.saturated]: "饱和",
    [Cell.leadOff]: "脱落",
    [Cell.invalid]: "无效",
    [Cell.artefact]: "伪差",
    [Cell.missing]: "缺失",
    [Cell.clipped]: "饱和",
    [Cell.calibration]: "定标",
  },
  derived: "推导",
  view: "显示",
  filters: { monitor: "监护", st: "ST段", diagnostic: "诊断" },
  notch: "陷波",
  settling: "滤波稳定中",
  limbError: "肢体导联不一致",
  still: "已冻结",
  since: "已",
  liveGoesOn: "实时继续：",
  loading: "正在载入较早的数据",
  farView: "远距显示",
  recorded: "已记录",
};

export const WORDS: Readonly<Record<EcgLanguage, EcgWords>> = { en: EN, zh: ZH };
