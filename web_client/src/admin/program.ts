/** What an administrator wrote of a program, checked before it is sent: each kind needs other things. */
import { isObj } from "../common/read";
import type { ProgramKind } from "./api";
import type { Registration } from "./queries";

export interface Written {
  readonly id: string;
  readonly name: string;
  readonly kind: ProgramKind;
  readonly scopes: string;
  readonly redirects: string;
  readonly launch: string;
  readonly jwks: string;
  readonly hospital: string;
}

export type Lacking = "id" | "name" | "scopes" | "redirects" | "jwks";

const wordsOf = (text: string): readonly string[] => text.split(/\s+/).filter((word) => word !== "");

/** Keys as a JWKS; null where the text is none. */
function keysOf(text: string): unknown {
  try {
    const found: unknown = JSON.parse(text);
    return isObj(found) && Array.isArray(found.keys) && found.keys.length > 0 ? found : null;
  } catch {
    return null;
  }
}

const isAddress = (text: string): boolean => /^https?:\/\/\S+$/.test(text);

/** Fields that are empty or cannot be meant so. */
export function lackingOf(written: Written): readonly Lacking[] {
  const isBackend = written.kind === "backend";
  const scopes = wordsOf(written.scopes);
  const found: Lacking[] = [];
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(written.id)) found.push("id");
  if (written.name.trim() === "") found.push("name");
  // A program without a person has system scopes, one with a person never has.
  if (scopes.length === 0 || scopes.some((scope) => scope.startsWith("system/") !== isBackend)) found.push("scopes");
  const redirects = wordsOf(written.redirects);
  if (!isBackend && (redirects.length === 0 || !redirects.every(isAddress))) found.push("redirects");
  if (written.kind !== "public" && keysOf(written.jwks) === null) found.push("jwks");
  return found;
}

export function registrationOf(written: Written): Registration {
  const isBackend = written.kind === "backend";
  return {
    id: written.id,
    name: written.name.trim(),
    kind: written.kind,
    scopes: wordsOf(written.scopes).join(" "),
    redirect_uris: isBackend ? [] : wordsOf(written.redirects),
    launch_uri: written.launch.trim(),
    ...(written.kind === "public" ? {} : { jwks: keysOf(written.jwks) }),
    ...(isBackend ? { hospital: written.hospital } : {}),
  };
}
