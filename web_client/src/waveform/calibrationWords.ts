/** Words of the calibration dialog, in Chinese and English. */

import type { EcgLanguage } from "./words";

const EN = {
  title: "Scale of this display",
  why: "Until a display is measured, its strips say “not to scale”. The measurement holds for this display at its present resolution and zoom.",
  now: (label: string, date: string): string =>
    `Measured ${date}${label === "" ? "" : ` as “${label}”`}. It will be void after zooming, another resolution or another screen.`,
  notNow: "This display has not been measured at its present resolution and zoom.",
  overscan:
    "The coloured frame runs along the edges of this window. In full screen all four edges must be visible: if not, switch the TV to “just scan” or 1:1 first.",
  method: "Measure with",
  ruler: "A ruler",
  card: "A bank or ID card",
  rulerHint: "Measure both bars on the glass, outer edge to outer edge.",
  cardHint: "Hold a card (85.6 × 54.0 mm) against the glass and make the frame as large as it.",
  across: "Horizontal bar",
  down: "Vertical bar",
  width: "Width",
  height: "Height",
  smaller: "smaller",
  larger: "larger",
  mm: "mm",
  label: "Name of this display",
  labelHint: "e.g. “left monitor”; printed with strips",
  wrong: "Enter what the ruler shows, in millimetres.",
  stretched: (percent: number): string =>
    `Width and height differ by ${percent} %: the picture is stretched. Check the picture format, or measure again.`,
  save: "Save",
  remove: "Remove measurement",
  cancel: "Cancel",
  close: "Close",
  notKept: "This browser does not let the measurement be kept.",
};

const ZH: typeof EN = {
  title: "本显示器的比例",
  why: "未测量的显示器会标明“未按比例校准”。测量结果只对本显示器当前的分辨率和缩放有效。",
  now: (label, date) => `${date} 已测量${label === "" ? "" : `（${label}）`}。缩放、更改分辨率或更换屏幕后失效。`,
  notNow: "本显示器在当前分辨率和缩放下尚未测量。",
  overscan: "彩色边框沿窗口四边显示。全屏时四边都应可见；若看不全，请先把电视设为“点对点”或 1:1。",
  method: "测量方式",
  ruler: "直尺",
  card: "银行卡或身份证",
  rulerHint: "用直尺在屏幕上量两条色条，从外缘到外缘。",
  cardHint: "把卡片（85.6 × 54.0 毫米）贴在屏幕上，调整边框与卡片一样大。",
  across: "横条",
  down: "竖条",
  width: "宽",
  height: "高",
  smaller: "缩小",
  larger: "放大",
  mm: "毫米",
  label: "显示器名称",
  labelHint: "例如“左侧显示器”，随图打印",
  wrong: "请输入直尺读数（毫米）。",
  stretched: (percent) => `横纵比例相差 ${percent}%：画面被拉伸。请检查画面格式或重新测量。`,
  save: "保存",
  remove: "清除测量",
  cancel: "取消",
  close: "关闭",
  notKept: "此浏览器不允许保存测量结果。",
};

export type CalibrationWords = typeof EN;

export const CALIBRATION_WORDS: Readonly<Record<EcgLanguage, CalibrationWords>> = { en: EN, zh: ZH };
