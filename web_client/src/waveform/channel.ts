/**
 * The wire as the waveform display sees it: frames in, control messages both ways.
 *
 * Over WebRTC this is one unordered DataConsumer for frames and the reliable `ctl`
 * pair (media/WAVEFORM_WIRE.md sections 2 and 5); a WebSocket can stand in for both.
 */

/** Undo a subscription. */
export type Dispose = () => void;

export interface EcgChannel {
  /** Each message of the stream; the buffer is the callee's to keep or transfer. */
  onFrame(callback: (message: ArrayBuffer) => void): Dispose;
  /** Each message of the relay on the control channel. */
  onControl(callback: (message: Uint8Array) => void): Dispose;
  /** Send to the relay; silently nothing while not open. */
  sendControl(message: Uint8Array): void;
  /** Frames and control can both flow now. */
  readonly open: boolean;
  onOpenChange(callback: (open: boolean) => void): Dispose;
}
