/** What administrators see and do, as TanStack Query hooks: lists refresh by themselves and keep what they show meanwhile. */
import {
  keepPreviousData,
  type UseQueryResult,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { ignoreBody, useHttp } from "../common/http";
import {
  type Crossing,
  type LockOverview,
  type LogPage,
  type NewCode,
  type Program,
  type Question,
  readCrossings,
  readNewCode,
  readOverview,
  readPrograms,
  readQuestions,
} from "./api";

const POLL_MS = 5_000;

const keys = {
  overview: ["admin", "lock"] as const,
  log: ["admin", "log"] as const,
  programs: ["admin", "programs"] as const,
};

export function useLockOverview(): UseQueryResult<LockOverview> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.overview,
    queryFn: ({ signal }) => http.get("/api/lock/overview", readOverview, { signal }),
    refetchInterval: POLL_MS,
  });
}

export interface LogFilter {
  readonly direction: "out" | "in";
  readonly kind: string;
  readonly outcome: "" | "ok" | "not_ok";
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

export function filterQuery(filter: LogFilter, before: number | null): string {
  const query = new URLSearchParams({ direction: filter.direction });
  if (filter.kind !== "") query.set("kind", filter.kind);
  if (filter.outcome !== "") query.set("outcome", filter.outcome);
  if (filter.fromMs !== null) query.set("from_ms", String(filter.fromMs));
  if (filter.toMs !== null) query.set("to_ms", String(filter.toMs));
  if (before !== null) query.set("before", String(before));
  return query.toString();
}

function useLog<Row>(path: string, filter: LogFilter, read: (body: unknown) => LogPage<Row>) {
  const http = useHttp();
  return useInfiniteQuery({
    queryKey: [...keys.log, path, filter],
    queryFn: ({ signal, pageParam }) => http.get(`${path}?${filterQuery(filter, pageParam)}`, read, { signal }),
    initialPageParam: null as number | null,
    getNextPageParam: (page) => page.nextBefore,
    placeholderData: keepPreviousData,
    // The first page is the news; who has gone back in the log reads what stands still.
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : POLL_MS),
  });
}

export const useCrossings = (gateway: string, filter: LogFilter) =>
  useLog<Crossing>(`/api/lock/gateways/${encodeURIComponent(gateway)}/crossings`, filter, readCrossings);

export const useQuestions = (gateway: string, filter: LogFilter) =>
  useLog<Question>(`/api/lock/gateways/${encodeURIComponent(gateway)}/questions`, filter, readQuestions);

export function useMakeCode() {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<NewCode, unknown, { hospital: string; name: string }>({
    mutationFn: (wanted) => http.post("/api/gateways/codes", wanted, readNewCode),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.overview }),
  });
}

export function useRevoke() {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<void, unknown, string>({
    mutationFn: (gateway) => http.delete(`/api/gateways/${encodeURIComponent(gateway)}`),
    onSettled: () => queries.invalidateQueries({ queryKey: keys.overview }),
  });
}

export function usePrograms(): UseQueryResult<readonly Program[]> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.programs,
    queryFn: ({ signal }) => http.get("/api/smart/clients", readPrograms, { signal }),
    refetchInterval: POLL_MS,
  });
}

export interface Registration {
  readonly id: string;
  readonly name: string;
  readonly kind: Program["kind"];
  readonly scopes: string;
  readonly redirect_uris: readonly string[];
  readonly launch_uri: string;
  readonly jwks?: unknown;
  readonly hospital?: string;
}

export function useRegister() {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<void, unknown, Registration>({
    mutationFn: (registration) => http.post("/api/smart/clients", registration, ignoreBody),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.programs }),
  });
}

export function useCloseProgram() {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<void, unknown, string>({
    mutationFn: (id) => http.delete(`/api/smart/clients/${encodeURIComponent(id)}`),
    onSettled: () => queries.invalidateQueries({ queryKey: keys.programs }),
  });
}
