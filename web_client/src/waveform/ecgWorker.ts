/** The drawing side of one EcgView in a worker of its own: a busy page cannot freeze the trace. */

import { EcgDriver, type FromEcg, type ToEcg } from "./driver";

const driver = new EcgDriver((message: FromEcg) => self.postMessage(message));

self.addEventListener("message", (event: MessageEvent<ToEcg>) => driver.handle(event.data));
