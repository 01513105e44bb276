/** Let a media session follow a consult's store; everything it needs to know is there. */
import type { ConsultSocket } from "../net/consultSocket";
import type { ConsultState, ConsultStore } from "../store/consultStore";
import { markOnce } from "./marks";
import type { Wishes } from "./plan";
import { MediaSession } from "./session";

export interface Attached {
  readonly session: MediaSession;
  readonly detach: () => void;
}

export function attachMedia(store: ConsultStore, socket: ConsultSocket, wishes: Wishes): Attached {
  const session = new MediaSession((command) => socket.command(command), wishes);
  const follow = (state: ConsultState, before: ConsultState | null): void => {
    const { consult, you, routerRtpCapabilities } = state;
    if (consult !== null && (consult !== before?.consult || state.mediaGeneration !== before.mediaGeneration)) {
      session.update(consult, state.mediaGeneration);
    }
    const isConnected = state.status.phase === "connected";
    const wasConnected = before?.status.phase === "connected";
    if (isConnected && !wasConnected && you !== null && routerRtpCapabilities !== null) {
      markOnce("joined");
      session.online(you, routerRtpCapabilities);
    }
    if (!isConnected && wasConnected) session.offline();
  };
  follow(store.getState(), null);
  const unsubscribe = store.subscribe(follow);
  return {
    session,
    detach: () => {
      unsubscribe();
      session.close();
    },
  };
}
