/**
 * An ECG that was recorded: an imported one, or a prior one beside the present one.
 *
 * Painted once on the main thread and again when size or look change; there is nothing live
 * about it, so it has no state and no age but its date and its name.
 */

import type { WaveformStream } from "../protocol/messages";
import type { EcgCanvas, EcgSize } from "./engine";
import { planFilter } from "./filters";
import { computePage, type PageRequest } from "./geometry";
import { paintRecordingOverlay } from "./overlay";
import { PALETTES } from "./palette";
import { context2d } from "./paper";
import type { EcgSample, EcgSettings, StillMap } from "./settings";
import { openRecording, type Recording, StillPage } from "./stillPage";
import { makeSheet } from "./surface";
import { WORDS } from "./words";

export interface RecordingShown {
  readonly settings: EcgSettings;
  readonly size: EcgSize;
  readonly title: string;
  /** Right edge; null = the page that begins at `fromUs`. */
  readonly atUs: number | null;
  /** Left edge; null = the first page. */
  readonly fromUs?: number | null;
}

export class RecordingView {
  private readonly recording: Recording;
  private page: StillPage | null = null;

  constructor(
    private readonly stream: WaveformStream,
    frames: readonly Uint8Array[],
  ) {
    this.recording = openRecording(frames, {
      streamId: stream.stream_id,
      leads: stream.leads.length,
      sampleRateMhz: stream.sample_rate_mhz,
      lsbNv: stream.lsb_nv,
      versions: null,
      simulated: stream.simulated,
    });
  }

  /** Server time of the first and the last sample; null when no frame fits. */
  get span(): { readonly fromUs: number; readonly toUs: number } | null {
    const { buffer, axis } = this.recording;
    if (axis.empty || buffer.empty) return null;
    return { fromUs: axis.timeOf(buffer.begin), toUs: axis.timeOf(buffer.end - 1) };
  }

  /** Paint it; answers where the lanes are, or null when there is nothing to show. */
  paint(
    trace: EcgCanvas,
    text: EcgCanvas,
    { settings, size, title, atUs, fromUs = null }: RecordingShown,
  ): StillMap | null {
    const { stream, recording } = this;
    const { buffer, axis } = recording;
    for (const canvas of [trace, text]) {
      canvas.width = Math.max(1, size.width);
      canvas.height = Math.max(1, size.height);
    }
    const { theme, language, filter, notch } = settings;
    const request: PageRequest = {
      surface: { ...size, theme },
      leads: stream.leads,
      sampleRateMhz: stream.sample_rate_mhz,
      layout: settings.layout,
      order: settings.order,
      rhythm: settings.rhythm,
      speedMmS: settings.speedMmS,
      gainMmMv: settings.gainMmMv,
      // A recording shorter than the page fills its columns as on paper; the rest stays empty.
      maxSamples: Math.max(1, buffer.end - buffer.begin),
      ...(settings.zoom === null ? {} : { zoom: settings.zoom }),
    };
    const page = computePage(request);
    const context = context2d(trace, { alpha: false });
    const style = { palette: PALETTES[theme], words: WORDS[language], nvPerStep: stream.lsb_nv, recorder: null };
    const sheet = makeSheet(context, page, style);
    const span = this.span;
    const begin =
      fromUs === null || axis.empty ? buffer.begin : Math.max(buffer.begin, Math.round(axis.positionOf(fromUs)));
    const edgeUs = atUs ?? (span === null ? 0 : axis.timeOf(begin + page.sweepSamples - 1));
    const plan = planFilter(filter, notch, stream.sample_rate_mhz / 1000);
    this.page = new StillPage(recording, edgeUs, stream.lsb_nv, stream.leads.length, plan);
    this.page.paint(context, sheet);
    const overlay = { page, request, stream, language, theme, filter, notch };
    paintRecordingOverlay(context2d(text), overlay, { title, atUs: span === null ? edgeUs : axis.timeOf(begin) });
    return span === null ? null : this.page.map(sheet, size.dpr);
  }

  /** The real sample nearest to a time, raw. [W32] */
  sample(lead: string, atUs: number): EcgSample | null {
    return this.page?.sample(lead, this.stream.leads, atUs) ?? null;
  }
}
