/**
 * Sound that survives a lost packet: each packet carries the one before it once more (RED, RFC 2198).
 *
 * Browsers can do it, but take part only with a format line that names Opus twice ("111/111"), which mediasoup-client
 * can neither write nor answer. So what it says to the browser is completed on its way there, for both directions. A
 * browser without RED, or a library whose insides have changed, goes on without: it is an improvement, not a condition.
 */
import type { types } from "mediasoup-client";

/** The relay's payload type for it (`RED_PAYLOAD_TYPE` in `media/core/ortc.py`). */
export const RED_PAYLOAD_TYPE = 109;

interface Red {
  readonly red: string;
  readonly opus: string;
}

const CODEC: Omit<types.RtpCodecCapability, "preferredPayloadType"> = {
  kind: "audio",
  mimeType: "audio/red",
  clockRate: 48_000,
  channels: 2,
};

export class RedundantSound {
  private constructor(private readonly pc: RTCPeerConnection | null) {}

  /** See to it that this transport negotiates RED wherever the browser can. */
  static of(transport: types.Transport): RedundantSound {
    const { _pc: pc } = (transport.handler ?? {}) as { readonly _pc?: RTCPeerConnection };
    if (pc === undefined || typeof pc.setRemoteDescription !== "function") return new RedundantSound(null);
    const describe = pc.setRemoteDescription.bind(pc);
    pc.setRemoteDescription = (remote: RTCSessionDescriptionInit): Promise<void> => {
      const { type, sdp = "" } = remote;
      if (type === "offer") return describe({ type, sdp: withFormat(sdp) });
      return describe(type === "answer" ? { type, sdp: answeredWithRed(sdp, pc.localDescription?.sdp ?? "") } : remote);
    };
    return new RedundantSound(pc);
  }

  /** What the relay must know of what we send: RED behind Opus, under the browser's payload type. */
  sending(rtpParameters: types.RtpParameters): types.RtpParameters {
    const section = sections(this.pc?.remoteDescription?.sdp ?? "").find((one) => midOf(one) === rtpParameters.mid);
    const found = section === undefined ? null : redOf(section);
    if (found === null) return rtpParameters;
    const codec = { ...CODEC, payloadType: Number(found.red), parameters: {}, rtcpFeedback: [] };
    return { ...rtpParameters, codecs: [...rtpParameters.codecs, codec] };
  }

  /** What this browser can receive: RED too, since `of` completes what it is offered. */
  receiving(capabilities: types.RtpCapabilities): types.RtpCapabilities {
    const known = globalThis.RTCRtpReceiver?.getCapabilities?.("audio")?.codecs ?? [];
    if (this.pc === null || !known.some(({ mimeType }) => mimeType.toLowerCase() === "audio/red")) return capabilities;
    const codec = { ...CODEC, preferredPayloadType: RED_PAYLOAD_TYPE, parameters: {}, rtcpFeedback: [] };
    return { ...capabilities, codecs: [...(capabilities.codecs ?? []), codec] };
  }
}

/** An offer of the relay with the format line that was left out. */
export function withFormat(offer: string): string {
  return edited(offer, (section) => {
    const opus = payloadOf(section, "opus");
    const red = payloadOf(section, "red");
    if (opus === null || red === null || redOf(section) !== null) return section;
    return `${section}a=fmtp:${red} ${opus}/${opus}\r\n`;
  });
}

/** An answer of the relay that takes the RED which the browser offered to send; first, since the first is sent. */
export function answeredWithRed(answer: string, offer: string): string {
  const offered = new Map(sections(offer).map((section) => [midOf(section), section]));
  return edited(answer, (section) => {
    const offer = offered.get(midOf(section));
    const found = offer === undefined ? null : redOf(offer);
    const isOurs = found !== null && payloadOf(section, "opus") === found.opus && payloadOf(section, "red") === null;
    if (!isOurs || !section.includes("\r\na=recvonly")) return section;
    const { red, opus } = found;
    const first = section.replace(/^(m=audio \S+ \S+ )/, `$1${red} `);
    return `${first}a=rtpmap:${red} red/48000/2\r\na=fmtp:${red} ${opus}/${opus}\r\n`;
  });
}

const sections = (sdp: string): readonly string[] => sdp.split(/^(?=m=)/m);

const edited = (sdp: string, edit: (section: string) => string): string =>
  sections(sdp)
    .map((section) => (section.startsWith("m=audio") ? edit(section) : section))
    .join("");

const midOf = (section: string): string | undefined => /^a=mid:(\S+)/m.exec(section)?.[1];

const payloadOf = (section: string, codec: "opus" | "red"): string | null =>
  new RegExp(`^a=rtpmap:(\\d+) ${codec}/48000/2`, "mi").exec(section)?.[1] ?? null;

/** RED of Opus, as far as the section says everything about it. */
function redOf(section: string): Red | null {
  const opus = payloadOf(section, "opus");
  const red = payloadOf(section, "red");
  if (opus === null || red === null) return null;
  return new RegExp(`^a=fmtp:${red} ${opus}/${opus}`, "m").test(section) ? { red, opus } : null;
}
