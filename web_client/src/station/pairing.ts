/** Pairing a wall screen: the code as people type it, and the three requests. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ScreenRole, Station, StationScreen } from "../common/api";
import { ignoreBody, useHttp } from "../common/http";
import { keys } from "../common/queries";

/** One screen of one station. */
export interface ScreenPlace {
  station: Station;
  screen: StationScreen;
}

export const CODE_LENGTH = 6;

/** What was typed or scanned as a code: capitals and digits only, spaces and dashes forgiven. */
export const cleanCode = (text: string): string =>
  text
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, "")
    .slice(0, CODE_LENGTH);

/** The role that a screen of this number has in a room of three. */
export function usualRole(screen: StationScreen): ScreenRole {
  if (screen.role !== null) return screen.role;
  return screen.number === 2 ? "video" : screen.number === 3 ? "ecg" : "record";
}

const path = ({ station, screen }: ScreenPlace): string =>
  `/api/stations/${encodeURIComponent(station.id)}/screens/${screen.number}`;

export interface Claim {
  place: ScreenPlace;
  code: string;
  role: ScreenRole;
}

export function useClaim(onDone: () => void) {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ place, code, role }: Claim) => http.post(`${path(place)}/claim`, { code, role }, ignoreBody),
    onSuccess: () => {
      void queries.invalidateQueries({ queryKey: keys.stations });
      onDone();
    },
  });
}

export function useUnpair(onDone: () => void) {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (place: ScreenPlace) => http.delete(path(place)),
    onSuccess: () => {
      void queries.invalidateQueries({ queryKey: keys.stations });
      onDone();
    },
  });
}

export function useIdentify(onDone: (place: ScreenPlace) => void) {
  const http = useHttp();
  return useMutation({
    mutationFn: (place: ScreenPlace) => http.post(`${path(place)}/identify`, {}, ignoreBody),
    onSuccess: (_, place) => onDone(place),
  });
}
