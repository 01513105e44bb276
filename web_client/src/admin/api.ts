/** What the lock's and the programs' routes answer an administrator, read narrowly. */
import { list, num, type Obj, obj, objs, oneOf, str } from "../common/read";

export interface LastCrossing {
  readonly kind: string;
  readonly atMs: number | null;
  readonly state: string;
}

export interface Gateway {
  readonly id: string;
  readonly name: string;
  readonly hospital: string;
  readonly enrolledAtMs: number | null;
  readonly revokedAtMs: number | null;
  readonly isConnected: boolean;
  readonly connectedAtMs: number | null;
  readonly seenAtMs: number | null;
  readonly software: string;
  /** Fingerprint of the policy in force inside. */
  readonly policy: string;
  /** Crossings that are committed here. */
  readonly received: number;
  /** Messages for the hospital that it does not have yet. */
  readonly waiting: number;
  /** The gateway's clock minus the hub's. */
  readonly offsetUs: number | null;
  readonly last: LastCrossing | null;
  readonly crossingP50Us: number | null;
  readonly crossingP99Us: number | null;
  readonly readP50Us: number | null;
  readonly readP99Us: number | null;
}

export interface WaitingCode {
  readonly id: string;
  readonly name: string;
  readonly hospital: string;
  readonly expiresAtMs: number | null;
}

export interface LockOverview {
  readonly gateways: readonly Gateway[];
  readonly codes: readonly WaitingCode[];
  readonly hospitals: readonly { readonly id: string; readonly name: string }[];
  /** The hub's certificate is from its own authority: a gateway needs that authority's certificate to enrol. */
  readonly hasAuthority: boolean;
  /** The hub's clock when it answered. */
  readonly nowMs: number;
}

export interface NewCode {
  readonly id: string;
  readonly code: string;
  readonly expiresAtMs: number | null;
}

export const STATES = ["applied", "repeated", "refused", "lost", "waiting", "inside", "delivered"] as const;
export type CrossingState = (typeof STATES)[number] | "unknown";

export interface Crossing {
  readonly id: number;
  readonly sequence: number;
  readonly last: number;
  readonly source: string;
  readonly kind: string;
  readonly sizeBytes: number;
  readonly state: CrossingState;
  readonly code: string;
  readonly atMs: number | null;
  readonly tookUs: number | null;
}

export interface Question {
  readonly id: number;
  readonly consult: string;
  readonly actor: string;
  readonly kind: string;
  readonly atMs: number | null;
  /** Empty when it was answered. */
  readonly code: string;
  readonly count: number;
  readonly sizeBytes: number;
  readonly tookUs: number | null;
}

export interface LogPage<Row> {
  readonly rows: readonly Row[];
  readonly nextBefore: number | null;
}

export const PROGRAM_KINDS = ["public", "app", "backend"] as const;
export type ProgramKind = (typeof PROGRAM_KINDS)[number];

export interface Program {
  readonly id: string;
  readonly name: string;
  readonly kind: ProgramKind;
  readonly hospital: string;
  readonly scopes: string;
  readonly redirectUris: readonly string[];
  readonly isActive: boolean;
}

export const gatewayPath = (id: string): string => `/admin/gateways/${encodeURIComponent(id)}`;

export function readOverview(body: unknown): LockOverview {
  const o = obj(body);
  return {
    gateways: objs(o.gateways).map(readGateway),
    codes: objs(o.codes).map((one) => ({
      id: str(one.id),
      name: str(one.name),
      hospital: str(one.hospital_name),
      expiresAtMs: num(one.expires_at_ms),
    })),
    hospitals: objs(o.hospitals).map((one) => ({ id: str(one.id), name: str(one.name) })),
    hasAuthority: o.has_authority === true,
    nowMs: num(o.now_ms) ?? 0,
  };
}

export function readNewCode(body: unknown): NewCode {
  const o = obj(body);
  return { id: str(o.id), code: str(o.code), expiresAtMs: num(o.expires_at_ms) };
}

export function readCrossings(body: unknown): LogPage<Crossing> {
  return readPage(body, (one) => ({
    id: num(one.id) ?? 0,
    sequence: num(one.sequence) ?? 0,
    last: num(one.last) ?? 0,
    source: str(one.source),
    kind: str(one.kind),
    sizeBytes: num(one.size_bytes) ?? 0,
    state: STATES.find((state) => state === one.state) ?? "unknown",
    code: str(one.code),
    atMs: num(one.at_ms),
    tookUs: num(one.took_us),
  }));
}

export function readQuestions(body: unknown): LogPage<Question> {
  return readPage(body, (one) => ({
    id: num(one.id) ?? 0,
    consult: str(one.consult),
    actor: str(one.actor),
    kind: str(one.kind),
    atMs: num(one.at_ms),
    code: str(one.code),
    count: num(one.count) ?? 0,
    sizeBytes: num(one.size_bytes) ?? 0,
    tookUs: num(one.took_us),
  }));
}

export function readPrograms(body: unknown): readonly Program[] {
  return objs(obj(body).clients).map((one) => ({
    id: str(one.id),
    name: str(one.name),
    kind: oneOf(one.kind, PROGRAM_KINDS, "public"),
    hospital: str(one.hospital),
    scopes: str(one.scopes),
    redirectUris: list(one.redirect_uris).map(str),
    isActive: one.active === true,
  }));
}

function readPage<Row>(body: unknown, read: (row: Obj) => Row): LogPage<Row> {
  const o = obj(body);
  return { rows: objs(o.rows).map(read), nextBefore: num(o.next_before) };
}

function readGateway(o: Obj): Gateway {
  const last = obj(o.last);
  return {
    id: str(o.id),
    name: str(o.name),
    hospital: str(o.hospital_name),
    enrolledAtMs: num(o.enrolled_at_ms),
    revokedAtMs: num(o.revoked_at_ms),
    isConnected: o.connected === true,
    connectedAtMs: num(o.connected_at_ms),
    seenAtMs: num(o.seen_at_ms),
    software: str(o.software),
    policy: str(o.policy),
    received: num(o.received) ?? 0,
    waiting: num(o.outbox_waiting) ?? 0,
    offsetUs: num(o.offset_us),
    last: num(last.at_ms) === null ? null : { kind: str(last.kind), atMs: num(last.at_ms), state: str(last.state) },
    crossingP50Us: num(o.crossing_p50_us),
    crossingP99Us: num(o.crossing_p99_us),
    readP50Us: num(o.read_p50_us),
    readP99Us: num(o.read_p99_us),
  };
}
