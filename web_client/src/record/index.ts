export { readBanner } from "./banner";
export { Identity, PatientBanner, type PatientBannerProps } from "./PatientBanner";
export { RecordPane, type RecordPaneProps } from "./RecordPane";
