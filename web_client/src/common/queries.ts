/** Server data the pages share, as TanStack Query hooks. */
import {
  QueryCache,
  QueryClient,
  type UseQueryResult,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import {
  type Config,
  type ConsultCard,
  type Person,
  readConfig,
  readConsult,
  readConsults,
  readPerson,
  readSession,
  readStations,
  type Session,
  type StationRoom,
} from "./api";
import { ApiError, type Http, useHttp } from "./http";
import { obj } from "./read";

export const keys = {
  session: ["session"] as const,
  config: ["config"] as const,
  consults: ["consults"] as const,
  consult: (id: string) => ["consults", id] as const,
  stations: ["stations"] as const,
};

/** How often lists that others change are asked for again. */
const POLL_MS = 5_000;

const isSignedOut = (error: unknown): boolean => error instanceof ApiError && error.status === 401;

/** A refusal is an answer: only trouble on the way is worth another try. */
export const worthRetrying = (failures: number, error: unknown): boolean =>
  failures < 2 && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500);

/** One cache per page. Any 401 makes the page know that its session has ended. */
export function createQueryClient(): QueryClient {
  const client: QueryClient = new QueryClient({
    queryCache: new QueryCache({
      onError: (error, query) => {
        if (isSignedOut(error) && query.queryKey[0] !== keys.session[0]) {
          client.setQueryData<Session | null>(keys.session, null);
        }
      },
    }),
    defaultOptions: { queries: { retry: worthRetrying, staleTime: 2_000, refetchOnWindowFocus: true } },
  });
  return client;
}

/** Null means nobody is signed in. */
export async function fetchSession(http: Http, signal?: AbortSignal): Promise<Session | null> {
  try {
    return await http.get("/api/session", readSession, { signal });
  } catch (error) {
    if (isSignedOut(error)) return null;
    throw error;
  }
}

/** Who this browser is; `data` is null when nobody is signed in. */
export function useSession(): UseQueryResult<Session | null> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.session,
    queryFn: ({ signal }) => fetchSession(http, signal),
    staleTime: 30_000,
  });
}

export function useConfig(): UseQueryResult<Config> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.config,
    queryFn: ({ signal }) => http.get("/api/config", readConfig, { signal }),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function useConsults(): UseQueryResult<readonly ConsultCard[]> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.consults,
    queryFn: ({ signal }) => http.get("/api/consults", readConsults, { signal }),
    refetchInterval: POLL_MS,
  });
}

export function useConsult(id: string): UseQueryResult<ConsultCard> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.consult(id),
    queryFn: ({ signal }) => http.get(`/api/consults/${encodeURIComponent(id)}`, readConsult, { signal }),
  });
}

export function useStations(): UseQueryResult<readonly StationRoom[]> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.stations,
    queryFn: ({ signal }) => http.get("/api/stations", readStations, { signal }),
    refetchInterval: POLL_MS,
  });
}

export interface Credentials {
  login: string;
  password: string;
}

/** Sign in; the session is known to the page at once. */
export function useSignIn() {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<Person, unknown, Credentials>({
    mutationFn: (credentials) => http.post("/api/session", credentials, (body) => readPerson(obj(body).person)),
    onSuccess: (person) => {
      // What a former person saw must not flash up for the next one.
      queries.removeQueries({ predicate: (query) => query.queryKey[0] !== keys.config[0] });
      const session: Session = { kind: "person", person };
      queries.setQueryData<Session | null>(keys.session, session);
    },
  });
}

/** Sign out; every cached answer goes with the session. `onSignedOut` runs before the page learns that nobody is here. */
export function useSignOut(onSignedOut: () => void) {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<void, unknown, void>({
    mutationFn: () => http.delete("/api/session"),
    onSuccess: () => {
      onSignedOut();
      queries.setQueryData<Session | null>(keys.session, null);
      queries.removeQueries({
        predicate: (query) => query.queryKey[0] !== keys.session[0] && query.queryKey[0] !== keys.config[0],
      });
    },
  });
}
