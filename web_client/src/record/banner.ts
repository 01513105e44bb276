/** Reading a patient's banner and telling the age as clinicians say it. */
import { type Obj, objs, oneOf, str } from "../common/read";
import type { Identifier, PatientBanner } from "./types";

/**
 * A banner from the server, or null when it lacks what W18 demands.
 *
 * Half an identity is worse than none: without a name and two identifiers
 * nothing of this patient may be shown under it.
 */
export function readBanner(value: Obj): PatientBanner | null {
  const [first, second] = objs(value.identifiers).map(readIdentifier);
  const id = str(value.id);
  const name = str(value.name);
  if (id === "" || name === "" || first === undefined || second === undefined) return null;
  return {
    id,
    name,
    name_latin: str(value.name_latin),
    sex: oneOf(value.sex, ["female", "male", "other", "unknown"], "unknown"),
    birth_date: str(value.birth_date),
    identifiers: [first, second],
    test: value.test === true,
  };
}

const readIdentifier = (value: Obj): Identifier => ({ label: str(value.label), value: str(value.value) });

export type Age = { unit: "years" | "months"; count: number };

/** Completed years, or completed months below two years; null when the dates make no sense. */
export function ageOn(birthDate: string, today: Date): Age | null {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(birthDate);
  if (match === null) return null;
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
  if (month < 1 || month > 12 || day < 1 || day > 31) return null;
  let months = (today.getFullYear() - year) * 12 + (today.getMonth() + 1 - month);
  if (today.getDate() < day) months -= 1;
  if (months < 0) return null;
  return months < 24 ? { unit: "months", count: months } : { unit: "years", count: Math.floor(months / 12) };
}
