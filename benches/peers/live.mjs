// Follows conversations as `live` of clients/subjects.rs does, with the TypeScript client.
import { readFileSync } from "node:fs";
import { follow, say, waitFor } from "./common.mjs";

const [url, path, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const ids = readFileSync(path, "utf8").split("\n").filter(Boolean);
say("up");
await waitFor("go");
let finish;
const finished = new Promise((resolve) => (finish = resolve));
let left = ids.length;
const conversations = [];
for (const id of ids) {
  let seen = -1; // The first is the snapshot that says the socket is there.
  let opened;
  const open = new Promise((resolve) => (opened = resolve));
  const conversation = follow(url, id, () => {
    if (++seen === 0) opened();
    if (seen === count && --left === 0) finish();
  });
  await conversation.start();
  await conversation.startWebSocketClient();
  await open;
  conversations.push(conversation);
}
say("ready");
await finished;
say("done");
await waitFor("end");
for (const conversation of conversations) {
  const held = await conversation.state.events.length();
  // Its list keeps the snapshot too.
  if (held < count) throw new Error(`a mirror holds ${held} events`);
}
process.exit(0);
