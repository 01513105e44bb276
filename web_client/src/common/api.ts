/** What the HTTP API answers, and readers that take it narrowly. */
import { readBanner } from "../record/banner";
import type { PatientBanner } from "../record/types";
import { num, type Obj, obj, objs, oneOf, str, strOrNull } from "./read";

export type PersonRole = "doctor" | "nurse" | "admin";

export interface Person {
  id: string;
  name: string;
  nameLatin: string;
  role: PersonRole;
  hospital: { id: string; name: string };
}

/** Who this browser is. */
export type Session =
  | { kind: "person"; person: Person }
  | { kind: "guest"; name: string; consult: string }
  | { kind: "screen" };

export interface DemoLogin {
  login: string;
  password: string;
  name: string;
  role: PersonRole;
}

export interface Config {
  demo: boolean;
  version: string;
  demoLogins: readonly DemoLogin[];
}

export type ConsultStatus = "scheduled" | "open" | "ended";

/** A consult as the list shows it. */
export interface ConsultCard {
  id: string;
  title: string;
  status: ConsultStatus;
  room: string;
  hub: string;
  partner: string;
  startsAtMs: number | null;
  patients: readonly PatientBanner[];
  participants: number;
}

export const SCREEN_ROLES = ["record", "video", "ecg"] as const;
export type ScreenRole = (typeof SCREEN_ROLES)[number];

export interface StationScreen {
  number: number;
  /** Null while nobody has paired it. */
  role: ScreenRole | null;
  paired: boolean;
  online: boolean;
}

export interface Station {
  id: string;
  name: string;
  consult: string | null;
  screens: readonly StationScreen[];
}

export interface StationRoom {
  id: string;
  name: string;
  stations: readonly Station[];
}

export interface Redeemed {
  consult: string;
  name: string;
}

/** A place may be told as its name or as `{id, name}`. */
const placeName = (value: unknown): string => str(value) || str(obj(value).name);

export function readPerson(value: unknown): Person {
  const o = obj(value);
  const hospital = obj(o.hospital);
  return {
    id: str(o.id),
    name: str(o.name),
    nameLatin: str(o.name_latin),
    role: oneOf(o.role, ["doctor", "nurse", "admin"], "doctor"),
    hospital: { id: str(hospital.id), name: str(hospital.name) },
  };
}

export function readSession(body: unknown): Session {
  const o = obj(body);
  if (o.kind === "screen") return { kind: "screen" };
  if (o.kind === "guest") {
    const guest = obj(o.guest);
    return { kind: "guest", name: str(guest.name), consult: str(guest.consult) };
  }
  return { kind: "person", person: readPerson(o.person) };
}

export function readConfig(body: unknown): Config {
  const o = obj(body);
  return {
    demo: o.demo === true,
    version: str(o.version),
    demoLogins: objs(o.demo_logins).map((login) => ({
      login: str(login.login),
      password: str(login.password),
      name: str(login.name),
      role: oneOf(login.role, ["doctor", "nurse", "admin"], "doctor"),
    })),
  };
}

export function readConsult(value: unknown): ConsultCard {
  const o = obj(value);
  return {
    id: str(o.id),
    title: str(o.title),
    status: oneOf(o.status, ["scheduled", "open", "ended"], "scheduled"),
    room: placeName(o.room),
    hub: placeName(o.hub),
    partner: placeName(o.partner),
    startsAtMs: num(o.starts_at_ms),
    patients: objs(o.patients).flatMap((patient) => readBanner(patient) ?? []),
    participants: num(o.participants) ?? 0,
  };
}

export function readConsults(body: unknown): readonly ConsultCard[] {
  return objs(obj(body).consults)
    .map(readConsult)
    .filter((consult) => consult.id !== "");
}

export function readStations(body: unknown): readonly StationRoom[] {
  return objs(obj(body).rooms).map((room) => ({
    id: str(room.id),
    name: str(room.name),
    stations: objs(room.stations).map(readStation),
  }));
}

function readStation(o: Obj): Station {
  return {
    id: str(o.id),
    name: str(o.name),
    consult: strOrNull(o.consult),
    screens: objs(o.screens).map((screen) => ({
      number: num(screen.number) ?? 0,
      role: SCREEN_ROLES.find((role) => role === screen.role) ?? null,
      paired: screen.paired === true,
      online: screen.online === true,
    })),
  };
}

export function readRedeemed(body: unknown): Redeemed {
  const o = obj(body);
  return { consult: str(o.consult), name: str(o.name) };
}
