import { createServer } from "node:net";

/*
 * The reference for the executor's front: answers every message with the same bytes without reading it.
 *   bench-bare-server <socket> <answer>
 */

const [path, answer] = process.argv.slice(2);
createServer((socket) => {
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    for (let at = chunk.indexOf(0); at >= 0; at = chunk.indexOf(0, at + 1)) socket.write(`${answer}\0`);
  });
}).listen({ path }, () => process.stdout.write("ready\n"));
