// From nothing to all events and a socket, with the TypeScript client.
import { follow, say, waitFor } from "./common.mjs";

const [url, id, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
say("up");
await waitFor("go");
let opened;
const open = new Promise((resolve) => (opened = resolve));
const conversation = follow(url, id, () => opened());
await conversation.start();
await conversation.startWebSocketClient();
await open;
const events = await conversation.state.events.getEvents();
say("done");
await waitFor("end");
if (events.length < count) throw new Error(`attached to ${events.length} events`);
process.exit(0);
