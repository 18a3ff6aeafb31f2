// Node's bare JSON.parse on the same lines; driven by benches/decode.rs.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

// Each line a string of its own, as each message of a socket is.
const bytes = readFileSync(process.argv[2]);
const lines = [];
for (let at = 0, end; (end = bytes.indexOf(10, at)) >= 0; at = end + 1) {
  lines.push(bytes.subarray(at, end).toString("utf8"));
}
let kinds = 0;
for await (const turn of createInterface({ input: process.stdin })) {
  const passes = Number(turn);
  const begun = performance.now();
  for (let pass = 0; pass < passes; pass++) {
    for (const line of lines) kinds += JSON.parse(line).kind.length;
  }
  console.log((passes * lines.length * 1000) / (performance.now() - begun));
}
process.exitCode = kinds > 0 ? 0 : 1;
