/**
 * The technical report a person can copy: versions, states and figures, never names, patients or tokens.
 */
import { clickToFirstFrameMs } from "../media/marks";
import type { MediaSession } from "../media/session";
import type { ConsultClient } from "./consultClient";

export async function buildReport(client: ConsultClient, media: MediaSession): Promise<string> {
  const { consult, you, status, mediaGeneration } = client.store.getState();
  const { path, remote, local } = media.store.getState();
  const report = {
    at: new Date().toISOString(),
    browser: navigator.userAgent,
    consult: consult?.id ?? null,
    participant: you,
    revision: consult?.revision ?? null,
    connection: {
      phase: status.phase,
      fresh: status.fresh,
      goodbye: status.goodbye,
      refusal: status.refusal?.code ?? null,
    },
    media: { path, generation: mediaGeneration, epoch: consult?.media_epoch ?? null, ...media.wayOfMedia },
    sending: Object.fromEntries(
      Object.entries(local).map(([kind, { on, problem, track }]) => [
        kind,
        { on, problem, track: track?.readyState ?? null },
      ]),
    ),
    receiving: remote.map(({ kind, source, paused, producer, track }) => ({
      kind,
      source,
      paused,
      producer,
      track: track?.readyState ?? null,
    })),
    clickToFirstFrameMs: clickToFirstFrameMs(),
    figures: await media.figures(),
  };
  return JSON.stringify(report, null, 2);
}

export async function copyReport(client: ConsultClient, media: MediaSession): Promise<void> {
  await navigator.clipboard.writeText(await buildReport(client, media));
}
