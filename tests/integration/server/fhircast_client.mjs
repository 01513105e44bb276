/**
 * A foreign FHIRcast client: @medplum/core's, as it is. Subscribes, tells every event it hears as a JSON line, and
 * does what it is told on its standard input: {"publish": name, "context": [...], "version"?}, {"get": true},
 * {"unsubscribe": true}.
 *
 *     node --experimental-websocket fhircast_client.mjs <core module> <origin> <hub path> <token> <topic> <events>
 */
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [module, origin, hub, token, topic, events] = process.argv.slice(2);
const { MedplumClient } = await import(pathToFileURL(module).href);
const tell = (what, value) => process.stdout.write(`${JSON.stringify({ what, value })}\n`);

const client = new MedplumClient({ baseUrl: `${origin}/`, fhircastHubUrl: hub, fetch });
client.setAccessToken(token);
const subscription = await client.fhircastSubscribe(topic, events.split(","));
const connection = client.fhircastConnect(subscription);
connection.addEventListener("connect", () => tell("connect", null));
connection.addEventListener("message", ({ payload }) => tell("message", payload));
connection.addEventListener("disconnect", () => tell("disconnect", null));

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    if (order.publish) {
      tell("published", await client.fhircastPublish(topic, order.publish, order.context, order.version));
    } else if (order.get) {
      tell("context", await client.fhircastGetContext(topic));
    } else {
      await client.fhircastUnsubscribe(subscription);
      tell("unsubscribed", null);
    }
  } catch (error) {
    tell("error", String(error.message ?? error));
  }
}
