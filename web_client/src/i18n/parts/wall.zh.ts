import type { SameKeys } from "../shape";
import type en from "./wall.en";

const zh: SameKeys<typeof en> = {
  title: "大屏",
  pairing: {
    title: "连接此屏幕",
    steps: "扫描二维码，或在工作站打开以下地址并输入配对码",
    code: "配对码",
    expires: "{{time}} 后更新",
    qr: "打开工作站页面并带有配对码的二维码",
    address: "本屏地址：{{address}}",
    loading: "正在向会诊中心获取配对码……",
    unreachable: "无法连接会诊中心，正在重试……",
  },
  idle: {
    ready: "就绪",
    noConsult: "本会诊室暂无会诊",
    screen: "屏幕 {{number}}",
    record: "病历",
    video: "视频",
    ecg: "心电图",
  },
  consult: {
    connecting: "正在连接……",
    notInSync: "未同步 – 屏幕 {{number}}",
    notInSyncHint: "在恢复同步之前，临床内容已隐藏。",
    switching: "正在切换患者……",
    noPatient: "未打开患者",
    noVideo: "等待合作医院会诊室接入",
    noEcg: "该患者暂无心电来源",
    otherPatient: "已连接的监护仪绑定的是另一位患者，不显示其波形。",
    soundOff: "声音已关闭",
    soundOn: "打开声音",
    ended: "会诊已结束",
  },
  identify: "屏幕 {{number}}",
};

export default zh;
