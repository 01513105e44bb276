/** The stored trace of an ECG that the record names: the same drawing as beside the live one, loaded when it is opened. */
import { useComputedColorScheme } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { ActivitySquare } from "lucide-react";
import { useMemo } from "react";
import { useTranslation } from "react-i18next";
import { ApiError, type Http, useHttp } from "../../common/http";
import { list, num, obj, str } from "../../common/read";
import { splitFrames } from "../../ecg/history";
import type { WaveformStream } from "../../protocol/messages";
import { EcgStill } from "../../waveform/EcgStill";
import styles from "../RecordPane.module.css";
import { KEPT, ofVersion, type RecordContext, recordKey, recordPath, usePane } from "../recordData";
import own from "./pages.module.css";
import { Failed, Lines, Notice } from "./parts";

interface Trace {
  stream: WaveformStream;
  frames: readonly Uint8Array[];
  strips: number;
}

export default function EcgTrace({ document, title }: { document: string; title: string }) {
  const { t, i18n } = useTranslation();
  const http = useHttp();
  const { context } = usePane();
  const scheme = useComputedColorScheme("light");
  const query = useQuery({
    queryKey: recordKey(context, "ecg", document),
    queryFn: ({ signal }) => fetchTrace(http, context, document, signal),
    ...KEPT,
  });
  const trace = query.data;
  const frames = useMemo(() => trace?.frames ?? [], [trace]);
  if (query.error !== null) {
    if (query.error instanceof ApiError && query.error.status === 404) {
      return <Notice icon={ActivitySquare} title={t("record.ecg.notHere")} body={t("record.ecg.notHereBody")} />;
    }
    return <Failed error={query.error} retry={() => void query.refetch()} />;
  }
  if (trace === undefined) return <Lines />;
  const lang = i18n.language === "zh-CN" ? "zh" : "en";
  return (
    <figure className={own.trace} data-testid="record-ecg">
      <div className={own.ecg}>
        <EcgStill theme={scheme} lang={lang} stream={trace.stream} frames={frames} title={title} />
      </div>
      {trace.strips > 1 && (
        <figcaption className={styles.soft}>{t("record.ecg.more", { count: trace.strips })}</figcaption>
      )}
    </figure>
  );
}

async function fetchTrace(http: Http, context: RecordContext, document: string, signal: AbortSignal): Promise<Trace> {
  const version = context.version();
  const path = recordPath(context, version, `DocumentReference/${encodeURIComponent(document)}/ecg`);
  const answer = await http.getBlob(path, { signal, timeoutMs: 60_000 });
  const bytes = new Uint8Array(await ofVersion(answer, version).arrayBuffer());
  const told = readStreamHeader(answer.headers.get("X-Stream"), context.patientId);
  if (told === null) throw badAnswer();
  try {
    return { ...told, frames: splitFrames(bytes) };
  } catch {
    throw badAnswer();
  }
}

const badAnswer = (): ApiError =>
  new ApiError(200, "bad_answer", "The server's answer cannot be read.", "无法读取服务器的响应。");

/** What the trace is; null when it cannot be drawn from that, or is another patient's (W19). */
export function readStreamHeader(text: string | null, patientId: string): Omit<Trace, "frames"> | null {
  let told: unknown;
  try {
    told = JSON.parse(text ?? "null");
  } catch {
    return null;
  }
  const o = obj(told);
  const [streamId, rate, lsb] = [num(o.stream_id), num(o.sample_rate_mhz), num(o.lsb_nv)];
  const leads = list(o.leads).map(str);
  if (streamId === null || rate === null || rate <= 0 || lsb === null || leads.length === 0) return null;
  if (o.patient !== patientId) return null;
  const stream: WaveformStream = {
    stream_id: streamId,
    leads,
    sample_rate_mhz: rate,
    lsb_nv: lsb,
    device: str(o.device),
    filter: str(o.filter),
    simulated: o.simulated === true,
    patient: str(o.patient),
  };
  return { stream, strips: num(o.strips) ?? 1 };
}
