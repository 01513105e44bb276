/**
 * Turning the page that everyone looks at, and saying so when a turn did not get through.
 *
 * The lead's own screen shows the shared page and nothing else, so it never stands on a page that the others do not
 * see. A turn that was made while the line was down is not made up for when it is back: by then somebody else may lead,
 * or speak of what is on the screens, and a page that changes under somebody's words is worse than one that has to be
 * turned again. It is said, and which page everyone is on.
 */
import { useCallback, useState } from "react";
import type { AnyCommand, Consult } from "../protocol";
import { sameView } from "../record/follow";
import type { View } from "../record/types";
import { openingOf } from "./contextGate";

/** Send a command; `onLost` is called when it was not answered: nobody knows whether it was carried out. */
export type SendCommand = (command: AnyCommand, onLost?: () => void) => Promise<void>;

interface LostTurn {
  readonly opening: string;
  readonly view: View;
}

export interface Turns {
  readonly turn: (view: View) => void;
  /** The last turn did not get through, and the shared page is another one. */
  readonly isLost: boolean;
  readonly forget: () => void;
}

export function useTurns(consult: Consult, me: string, send: SendCommand): Turns {
  const [lost, setLost] = useState<LostTurn | null>(null);
  const { context_version } = consult;
  const opening = openingOf(consult);
  const turn = useCallback(
    (view: View): void => {
      setLost(null);
      void send({ type: "turn_page", context_version, view }, () => setLost({ opening, view }));
    },
    [send, context_version, opening],
  );
  const forget = useCallback(() => setLost(null), []);
  // The answer may be what was lost: then the page has been turned, or somebody else has turned to it.
  const isHere = lost !== null && sameView(lost.view, consult.view);
  return { turn, isLost: lost !== null && !isHere && lost.opening === opening && consult.lead === me, forget };
}
