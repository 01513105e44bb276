/** Case packs as TanStack Query hooks. What is read of a pack is audited, so nothing is asked for again by itself. */
import { keepPreviousData, type UseQueryResult, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { ApiError, useHttp } from "../common/http";
import {
  type DraftPack,
  type Overview,
  type PackRequest,
  packPath,
  readAskAnswer,
  readDraft,
  readOverview,
  readSent,
  type SentPack,
} from "./api";

const POLL_MS = 15_000;

const keys = {
  overview: ["casepack"] as const,
  sent: (consult: string, patient: string) => ["casepack", "sent", consult, patient] as const,
  draft: (consult: string, patient: string) => ["casepack", "draft", consult, patient] as const,
};

const ONCE = { staleTime: Number.POSITIVE_INFINITY, refetchOnWindowFocus: false, retry: false } as const;

const isRefused = (error: unknown): boolean => error instanceof ApiError && error.status === 403;

/** Packs of my consults, and what my hospital is asked for: names only, no content. */
export function useOverview(): UseQueryResult<Overview> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.overview,
    queryFn: ({ signal }) => http.get("/api/casepack", readOverview, { signal }),
    // Who may not see packs (a guest) is not asked again and again.
    refetchInterval: (query) => (isRefused(query.state.error) ? false : POLL_MS),
  });
}

/** `newsMs` of the overview: when an ask was answered meanwhile, the pack is read once more, and stays shown until then. */
export function useSentPack(
  consult: string,
  patient: string,
  version: number,
  newsMs: number | null,
): UseQueryResult<SentPack> {
  const http = useHttp();
  return useQuery({
    queryKey: [...keys.sent(consult, patient), version, newsMs],
    placeholderData: keepPreviousData,
    queryFn: ({ signal }) => http.get(packPath(consult, patient, `?v=${version}`), readSent, { signal }),
    ...ONCE,
  });
}

export function useDraft(consult: string, patient: string): UseQueryResult<DraftPack> {
  const http = useHttp();
  return useQuery({
    queryKey: keys.draft(consult, patient),
    queryFn: ({ signal }) => http.get(packPath(consult, patient, "/draft"), readDraft, { signal }),
    ...ONCE,
  });
}

export interface Written {
  readonly specialty: string;
  readonly request: PackRequest;
  readonly leftOut: readonly string[];
}

export function useSaveDraft(consult: string, patient: string) {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<DraftPack, unknown, Written>({
    mutationFn: ({ specialty, request, leftOut }) =>
      http.post(packPath(consult, patient, "/draft"), { specialty, request, left_out: leftOut }, readDraft),
    onSuccess: (draft) => queries.setQueryData(keys.draft(consult, patient), draft),
  });
}

export function useSendPack(consult: string, patient: string) {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation<void, unknown, string>({
    mutationFn: (contentHash) =>
      http.post(packPath(consult, patient, "/send"), { content_hash: contentHash }, () => undefined),
    // Also after a refusal: what has changed meanwhile is to be seen.
    onSettled: () => queries.invalidateQueries({ queryKey: keys.overview }),
  });
}

/** A question to a hospital may take its time. */
const ASK_TIMEOUT_MS = 25_000;

export function useAsk(consult: string, patient: string, specialty: string) {
  const http = useHttp();
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (part: string) =>
      http.post(packPath(consult, patient, "/asks"), { specialty, part }, readAskAnswer, { timeoutMs: ASK_TIMEOUT_MS }),
    onSettled: async () => {
      await queries.invalidateQueries({ queryKey: keys.draft(consult, patient) });
      // The overview brings the news by which the sent pack is read again.
      await queries.invalidateQueries({ queryKey: keys.overview, exact: true });
    },
  });
}

/** After an ask was answered or declined. */
export function useRefreshOverview(): () => Promise<void> {
  const queries = useQueryClient();
  return () => queries.invalidateQueries({ queryKey: keys.overview, exact: true });
}
