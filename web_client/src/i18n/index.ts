/**
 * Chinese and English, both complete, both in the bundle.
 *
 * Each area of the client keeps its sentences in parts/<area>.{en,zh}.ts. The
 * English part gives the shape and the Chinese one must match it (compiler and
 * i18n.test.ts). Sentences that come from the server arrive in both languages
 * and are chosen by `localized`.
 */
import { createInstance } from "i18next";
import { initReactI18next } from "react-i18next";
import adminEn from "./parts/admin.en";
import adminZh from "./parts/admin.zh";
import bindingEn from "./parts/binding.en";
import bindingZh from "./parts/binding.zh";
import casepackEn from "./parts/casepack.en";
import casepackZh from "./parts/casepack.zh";
import commonEn from "./parts/common.en";
import commonZh from "./parts/common.zh";
import deskEn from "./parts/desk.en";
import deskZh from "./parts/desk.zh";
import ecgEn from "./parts/ecg.en";
import ecgZh from "./parts/ecg.zh";
import homeEn from "./parts/home.en";
import homeZh from "./parts/home.zh";
import nettestEn from "./parts/nettest.en";
import nettestZh from "./parts/nettest.zh";
import prejoinEn from "./parts/prejoin.en";
import prejoinZh from "./parts/prejoin.zh";
import recordEn from "./parts/record.en";
import recordZh from "./parts/record.zh";
import shareEn from "./parts/share.en";
import shareZh from "./parts/share.zh";
import stationEn from "./parts/station.en";
import stationZh from "./parts/station.zh";
import wallEn from "./parts/wall.en";
import wallZh from "./parts/wall.zh";

export const en = {
  common: commonEn,
  home: homeEn,
  station: stationEn,
  record: recordEn,
  prejoin: prejoinEn,
  desk: deskEn,
  ecg: ecgEn,
  binding: bindingEn,
  casepack: casepackEn,
  share: shareEn,
  nettest: nettestEn,
  wall: wallEn,
  admin: adminEn,
};

export const zh = {
  common: commonZh,
  home: homeZh,
  station: stationZh,
  record: recordZh,
  prejoin: prejoinZh,
  desk: deskZh,
  ecg: ecgZh,
  binding: bindingZh,
  casepack: casepackZh,
  share: shareZh,
  nettest: nettestZh,
  wall: wallZh,
  admin: adminZh,
};

export type Language = "zh-CN" | "en";

const LANGUAGE_KEY = "consilium.language";

/** The remembered language, else the browser's, else English. */
export function preferredLanguage(): Language {
  let remembered: string | null = null;
  try {
    remembered = window.localStorage.getItem(LANGUAGE_KEY);
  } catch {
    // Storage can be switched off by policy; the browser's language is used.
  }
  if (remembered === "zh-CN" || remembered === "en") return remembered;
  return window.navigator.language.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
}

export const i18n = createInstance();

void i18n.use(initReactI18next).init({
  lng: preferredLanguage(),
  fallbackLng: false,
  resources: { en: { translation: en }, "zh-CN": { translation: zh } },
  // React escapes what it renders; escaping twice shows &amp; to people.
  interpolation: { escapeValue: false },
  returnEmptyString: false,
});

document.documentElement.lang = i18n.language;
i18n.on("languageChanged", (language) => {
  document.documentElement.lang = language;
});

/** Switch and remember. */
export async function setLanguage(language: Language): Promise<void> {
  try {
    window.localStorage.setItem(LANGUAGE_KEY, language);
  } catch {
    // Not remembered then; it still switches.
  }
  await i18n.changeLanguage(language);
}

/** The language in use now. */
export function currentLanguage(): Language {
  return i18n.language === "zh-CN" ? "zh-CN" : "en";
}

/** A sentence the server gave in both languages: an ApiError, a refusal, a reason. */
export function localized(sentence: { en: string; zh: string }): string {
  return currentLanguage() === "zh-CN" ? sentence.zh : sentence.en;
}
