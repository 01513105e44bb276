/** 共同标注与身份核对。 */
import type { SameKeys } from "../shape";
import type en from "./share.en";

export default {
  highlight: "高亮",
  highlightHint: "点击条目，或拖动画框。",
  clear: "清除高亮",
  elsewhere: "{{name}} 高亮的内容在本屏幕的排版位置不同。",
  draw: "手写标注",
  drawing: "书写期间，所有人的页面保持不动。",
  text: "简短说明（可选）",
  undo: "撤销上一笔",
  cancel: "放弃",
  save: "存入病历",
  frozen: "{{name}} 正在此页书写，页面已固定。",
  frozenMine: "您已固定此页。",
  otherLayout: "本屏幕的排版不同。",
  release: "解除固定",
  notes: "本页标注",
  drawingOnly: "手写内容",
  show: "显示",
  hide: "隐藏",
  mistake: "标为误录",
  why: "原因",
  inError: "误录，{{by}}：{{reason}}",
  apart: "页面内容已变化，或在此处排版不同。手写内容单独显示，不覆盖在页面上。",
  identity: {
    label: "身份核对",
    missing: "身份核对：请念出两项身份标识。尚未核对：{{sides}}。",
    hub: "会诊中心",
    partner: "合作医院",
    skipped: "{{name}} 暂缓核对：{{reason}}",
    open: "已听清并核对",
    wrong: "不是该患者",
    skip: "情况紧急",
    intro: "请勾选床旁念出且与患者信息栏一致的内容，至少两项。",
    confirm: "核对一致",
    title: {
      tick: "身份核对",
      wrong: "不是该患者",
      skip: "暂不核对，继续",
    },
    text: {
      wrong: "所有屏幕上的病历将关闭，设备绑定将解除。",
      skip: "提示栏继续显示，原因将被记录。",
    },
    send: {
      wrong: "在所有屏幕上关闭病历",
      skip: "继续",
    },
  },
  namesake: "另有同姓患者",
} satisfies SameKeys<typeof en>;
