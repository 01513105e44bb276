export { IdentityBar } from "./IdentityBar";
export { NotesOfPage } from "./NotesOfPage";
export { ShareBar } from "./ShareBar";
export { ShareLayer, useSheetStyle } from "./ShareLayer";
export { SharingProvider } from "./SharingProvider";
export { inkOf, type ShareLink, ShareLinkValue } from "./sharing";
