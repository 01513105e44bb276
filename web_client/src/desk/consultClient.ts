/**
 * Everything one page holds of one consult: its socket, its store, its media.
 *
 * Shared by the desk and the walls; only the wishes and the tracks brought along differ.
 */
import { ApiError, type Http } from "../common/http";
import { obj, str } from "../common/read";
import { rememberedProfile } from "../ecg/profile";
import { type Attached, attachMedia } from "../media/attach";
import { WaveformSocket } from "../media/ecgLinkSocket";
import { NO_FIGURES, type SessionFigures } from "../media/figures";
import { clickToFirstFrameMs } from "../media/marks";
import type { Wishes } from "../media/plan";
import type { MediaSession } from "../media/session";
import type { ConsultSocket } from "../net/consultSocket";
import { BusyError, RefusalError } from "../net/refusal";
import { type ConsultStore, openConsult } from "../store/consultStore";

const WAITS: ReadonlySet<string> = new Set(["too_busy", "too_many_attempts"]);

export interface ConsultClient {
  readonly store: ConsultStore;
  readonly socket: ConsultSocket;
  /** `null` on a screen that shows no media. */
  readonly media: MediaSession | null;
  readonly close: () => void;
}

/** Read-only figures for tests and for the technical report. */
export interface PageFigures extends SessionFigures {
  readonly clickToFirstFrameMs: number | null;
}

declare global {
  interface Window {
    __consilium?: { readonly stats: () => Promise<PageFigures> };
  }
}

/**
 * A consult token, asked for before a connection.
 *
 * @throws RefusalError when time cannot heal it; BusyError when the server says when to ask again. [SE16]
 */
export async function fetchToken(http: Http, consultId: string): Promise<string> {
  try {
    return await http.post(`/api/consults/${encodeURIComponent(consultId)}/token`, {}, (body) => str(obj(body).token));
  } catch (error) {
    const isFinal = error instanceof ApiError && [401, 403, 404, 410].includes(error.status);
    const waits = error instanceof ApiError && WAITS.has(error.code) ? error.retryAfterS : null;
    if (waits !== null) throw new BusyError(waits * 1_000);
    if (isFinal) throw new RefusalError({ code: error.code, en: error.en, zh: error.zh });
    throw error;
  }
}

/** Join a consult; `wishes` null means no media at all. */
export function openClient(http: Http, consultId: string, wishes: Wishes | null): ConsultClient {
  const { store, socket } = openConsult({
    getToken: () => fetchToken(http, consultId),
    onSignal: (signal) => media?.heard(signal),
  });
  const attached: Attached | null = wishes === null ? null : attachMedia(store, socket, wishes);
  const media = attached?.session ?? null;
  if (wishes?.ecg === true) {
    const getToken = (): Promise<string> => fetchToken(http, consultId);
    media?.ecg.allowSocket((events) => new WaveformSocket({ getToken }, events), rememberedProfile());
  }
  window.__consilium = {
    stats: async () => ({ ...(await figuresOf(media)), clickToFirstFrameMs: clickToFirstFrameMs() }),
  };
  socket.start();
  return {
    store,
    socket,
    media,
    close: () => {
      attached?.detach();
      socket.close();
    },
  };
}

function figuresOf(media: MediaSession | null): Promise<SessionFigures> {
  return media === null ? Promise.resolve(NO_FIGURES) : media.figures();
}
