import type { SameKeys } from "../shape";
import type en from "./station.en";

const zh: SameKeys<typeof en> = {
  title: "会诊工作站",
  lead: "每个工作站有多块大屏。请输入屏幕上显示的配对码完成配对，并选择其用途。",
  empty: "尚无会诊室",
  emptyBody: "会诊室和工作站由管理员设置。",
  forbidden: "您的账号无权查看工作站",
  screen: "屏幕 {{number}}",
  role: { record: "患者病历", video: "合作医院现场", ecg: "实时心电图" },
  roleHint: {
    record: "跟随主讲人翻页",
    video: "合作医院的画面与声音",
    ecg: "12 导联，已标定",
  },
  state: {
    online: "在线",
    offline: "已配对，无法连接",
    unpaired: "未配对",
  },
  inConsult: "会诊中",
  idle: "空闲",
  ready_one: "{{total}} 块屏幕中 {{count}} 块在线",
  ready_other: "{{total}} 块屏幕中 {{count}} 块在线",
  pair: "配对",
  pairLabel: "配对：{{station}} 屏幕 {{number}}",
  change: "重新配对",
  changeLabel: "重新配对：{{station}} 屏幕 {{number}}",
  unpair: "解除配对",
  unpairLabel: "解除配对：{{station}} 屏幕 {{number}}",
  identify: "识别",
  identifyLabel: "识别：在 {{station}} 屏幕 {{number}} 上显示编号",
  identified: "{{station}} 屏幕 {{number}} 正在显示编号。",
  claimed: "{{station}} 屏幕 {{number}} 已配对。",
  unpaired: "{{station}} 屏幕 {{number}} 已解除配对。",
  withCode: "配对码 {{code}}：请选择对应的屏幕。",
  dropCode: "清除此配对码",
  dialog: {
    title: "配对：{{station}} 屏幕 {{number}}",
    code: "屏幕上显示的配对码",
    codeHint: "请在显示屏上打开 /wall。配对码共 6 位，5 分钟内有效。",
    codeShort: "配对码由 6 位字母和数字组成。",
    role: "显示内容",
    submit: "配对此屏幕",
    submitting: "正在配对……",
    invalid: "没有屏幕在等待此配对码。配对码每 5 分钟更换一次，请再查看显示屏。",
  },
  unpairDialog: {
    title: "解除 {{station}} 屏幕 {{number}} 的配对？",
    body: "显示屏将立即清空，并显示新的配对码。",
    inConsult: "该工作站正在进行会诊。",
    submit: "解除配对",
  },
};

export default zh;
