import type { SameKeys } from "../shape";
import type en from "./common.en";

const zh: SameKeys<typeof en> = {
  listSeparator: "、",
  product: "Consilium",
  tagline: "医院远程会诊平台",
  skipToContent: "跳至主要内容",
  loading: "正在加载……",
  retry: "重试",
  cancel: "取消",
  close: "关闭",
  back: "返回",
  language: "语言",
  languageSwitchTo: "Switch to English",
  colorScheme: "外观",
  schemeLight: "浅色",
  schemeDark: "深色",
  schemeAuto: "跟随系统",
  clockLabel: "本地时间",
  errorTitle: "暂时无法显示",
  errorCode: "代码：{{code}}",
  unexpectedTitle: "页面出现错误",
  unexpectedBody: "页面本身发生故障。重新加载通常可以恢复，已保存的内容不会丢失。",
  reload: "重新加载页面",
  notFoundTitle: "页面不存在",
  notFoundBody: "链接可能已过期或不完整。",
  toStart: "回到我的会诊",
};

export default zh;
