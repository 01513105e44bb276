/**
 * Between the wire's names and mediasoup-client's.
 *
 * The wire carries ORTC parameter objects as they are; signalling never looks inside and neither do we. The one place
 * where their types are asserted is here: mediasoup-client checks every object itself and throws TypeError on a bad one.
 */
import type { types } from "mediasoup-client";
import type { Consuming, ConsumingData, JsonObject, TransportOptions } from "../protocol";
import { choose, type Offer, type Route } from "./route";

/** The ways to the media plane that a Transport comes with. */
export const offerOf = (wire: TransportOptions): Offer<JsonObject> => ({
  candidates: wire.ice_candidates,
  servers: wire.ice_servers,
});

export function transportOptions(wire: TransportOptions, route: Route): types.TransportOptions {
  const offer = offerOf(wire);
  const { candidates, policy } = choose(offer, route);
  return {
    id: wire.id,
    iceParameters: wire.ice_parameters as unknown as types.IceParameters,
    iceCandidates: candidates as unknown as types.IceCandidate[],
    dtlsParameters: wire.dtls_parameters as unknown as types.DtlsParameters,
    sctpParameters: wire.sctp_parameters as unknown as types.SctpParameters,
    iceServers: iceServers(offer, route),
    iceTransportPolicy: policy,
  };
}

/** Only our own deployment's TURN servers: asking anybody else would leave the hospital's network. */
export function iceServers(offer: Offer<JsonObject>, route: Route): RTCIceServer[] {
  const { servers } = choose(offer, route);
  return servers.map(({ urls, username, credential }) => ({ urls: [...urls], username, credential }));
}

export const iceParameters = (wire: JsonObject): types.IceParameters => wire as unknown as types.IceParameters;

export const routerCapabilities = (wire: JsonObject): types.RtpCapabilities => wire as unknown as types.RtpCapabilities;

/** `streamId` joins a participant's camera and microphone, so that the browser keeps their lips in step. */
export function consumerOptions(wire: Consuming, streamId: string): types.ConsumerOptions {
  return {
    id: wire.consumer,
    producerId: wire.producer,
    kind: wire.kind,
    rtpParameters: wire.rtp_parameters as unknown as types.RtpParameters,
    streamId,
  };
}

export function dataConsumerOptions(wire: ConsumingData): types.DataConsumerOptions {
  return {
    id: wire.data_consumer,
    dataProducerId: wire.data_producer,
    sctpStreamParameters: wire.sctp_stream_parameters as unknown as types.SctpStreamParameters,
    label: wire.label,
    protocol: wire.protocol,
  };
}

/** A plain copy: msgpack must not meet class instances or `undefined`. */
export const toWire = (value: object): JsonObject => JSON.parse(JSON.stringify(value)) as JsonObject;
