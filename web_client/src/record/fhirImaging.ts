/**
 * ImagingStudy: series of images, put together to studies by the study's UID.
 *
 * A hospital's gateway sends each series as a resource of its own, so one study may be
 * several resources; a picture is asked for by the resource that names it.
 */
import { num, type Obj, obj, objs, str } from "../common/read";
import { type Moment, newestFirst, readCode, readMoment, readTerm, referenceName, type Term, termOf } from "./fhir";

export interface Instance {
  uid: string;
  /** The resource that names it. */
  study: string;
  number: number | null;
  title: string;
}

export interface ImagingSeries {
  id: string;
  /** DICOM study UID; the resource's id where it has none. */
  study: string;
  resource: string;
  modality: string;
  title: Term | null;
  studyTitle: Term | null;
  site: Term | null;
  started: Moment | null;
  by: string;
  status: string;
  /** As announced; may be more than the instances that are listed. */
  count: number;
  instances: readonly Instance[];
}

/** ImagingStudy: its series; one without series counts as one that lists nothing. */
export function readImaging(resource: Obj): readonly ImagingSeries[] | null {
  const id = str(resource.id);
  if (id === "") return null;
  const study = studyUid(resource) || id;
  const head = {
    study,
    resource: id,
    studyTitle: termOf([str(resource.description)]) ?? readTerm(objs(resource.procedureCode)[0]),
    status: str(resource.status),
    by: referenceName(resource.referrer),
  };
  const started = readMoment(resource.started);
  const series = objs(resource.series).map((one, index) => ({
    ...head,
    id: `${id}.${index + 1}`,
    modality: str(obj(one.modality).code) || readCode(one.modality) || modalityOf(resource),
    title: termOf([str(one.description)]),
    site: termOf([str(obj(one.bodySite).display)]),
    started: readMoment(one.started) ?? started,
    count: num(one.numberOfInstances) ?? objs(one.instance).length,
    instances: objs(one.instance)
      .map((instance) => ({
        uid: str(instance.uid),
        study: id,
        number: num(instance.number),
        title: str(instance.title),
      }))
      .filter((instance) => /^[0-9.]{1,64}$/.test(instance.uid))
      .toSorted((a, b) => (a.number ?? 0) - (b.number ?? 0)),
  }));
  if (series.length > 0) return series;
  const count = num(resource.numberOfInstances) ?? 0;
  const empty = { title: null, site: null, started, count, instances: [] };
  return [{ ...head, ...empty, id: `${id}.0`, modality: modalityOf(resource) }];
}

function studyUid(resource: Obj): string {
  const identifiers = objs(resource.identifier).filter((one) => str(one.system) === "urn:dicom:uid");
  return str(identifiers[0]?.value).replace(/^urn:oid:/, "");
}

const modalityOf = (resource: Obj): string => str(objs(resource.modality)[0]?.code);

export interface Study {
  uid: string;
  /** A resource that is part of it: what the shared view names. */
  id: string;
  title: Term | null;
  modalities: readonly string[];
  started: Moment | null;
  series: readonly ImagingSeries[];
  instances: readonly Instance[];
  count: number;
  cancelled: boolean;
}

/** Studies, newest first. */
export function studiesOf(all: readonly ImagingSeries[]): readonly Study[] {
  const byUid = new Map<string, ImagingSeries[]>();
  for (const series of all) byUid.set(series.study, [...(byUid.get(series.study) ?? []), series]);
  const studies = [...byUid].map(([uid, series]) => ({
    uid,
    // The same on every screen, whatever order the resources came in.
    id: series.map((one) => one.resource).toSorted()[0] ?? "",
    title: series.map((one) => one.studyTitle).find((title) => title !== null) ?? null,
    modalities: [...new Set(series.map((one) => one.modality).filter((modality) => modality !== ""))],
    started: newestFirst(series, (one) => one.started).at(-1)?.started ?? null,
    series,
    instances: series.flatMap((one) => one.instances),
    count: series.reduce((sum, one) => sum + one.count, 0),
    cancelled: series.every((one) => one.status === "cancelled" || one.status === "entered-in-error"),
  }));
  return newestFirst(studies, (study) => study.started);
}

export interface PictureInfo {
  rows: number;
  columns: number;
  frames: number;
  window: string;
  centre: number | null;
  width: number | null;
  windows: readonly string[];
  spacing: readonly [number, number] | null;
  atDetector: boolean;
  smaller: boolean;
  lossy: boolean;
  laterality: string;
}

/** What the server says of a picture; null when it says nothing that fits. */
export function readPictureInfo(about: unknown): PictureInfo | null {
  const o = obj(about);
  const [rows, columns, frames] = [num(o.rows), num(o.columns), num(o.frames)];
  if (rows === null || columns === null || frames === null || rows < 1 || columns < 1) return null;
  const spacing = Array.isArray(o.spacing_mm) ? o.spacing_mm.map(num) : [];
  const [down, across] = spacing;
  return {
    rows,
    columns,
    frames,
    window: str(o.window),
    centre: num(o.centre),
    width: num(o.width),
    windows: (Array.isArray(o.windows) ? o.windows : []).map(str),
    spacing: down == null || across == null ? null : [down, across],
    atDetector: o.at_detector === true,
    smaller: o.smaller === true,
    lossy: o.lossy === true,
    laterality: str(o.laterality),
  };
}
