// What the TypeScript peers share: the client package, and the words spoken with the bench.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

// The client looks for `ws` with `require`, which a module of Node does not have.
const entry = join(process.env.OPENHANDS_TYPESCRIPT, "dist/index.js");
globalThis.require = createRequire(entry);
const { RemoteConversation, RemoteWorkspace } = await import(pathToFileURL(entry).href);

export function follow(url, id, callback) {
  const apiKey = process.env.OPENHANDS_KEY;
  const workspace = new RemoteWorkspace({ host: url, workingDir: "/fake", apiKey });
  return new RemoteConversation({}, workspace, {
    conversationId: id,
    callback,
    onError: (error) => console.error(String(error)),
  });
}

export function say(word, answer = "") {
  process.stdout.write(`${word} ${answer}\n`);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export async function waitFor(what) {
  const { value, done } = await lines.next();
  if (done) throw new Error(`nobody says ${what} any more`);
  return value.trim();
}
