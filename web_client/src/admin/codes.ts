/** Codes of refusals in words; one that is not known here is shown as it is. */
import type { TFunction } from "i18next";
import en from "../i18n/parts/admin.en";

type Code = keyof typeof en.code;

const isKnown = (code: string): code is Code => Object.hasOwn(en.code, code);

export function codeText(t: TFunction, code: string): string {
  return isKnown(code) ? t(`admin.code.${code}`) : code;
}
