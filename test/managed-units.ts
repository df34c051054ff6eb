import { dlopen } from "bun:ffi";
import { closeSync } from "node:fs";
import { listenUnix } from "../src/sys-ffi.ts";

/**
 * Stands for a socket unit with Accept=yes: `<socket> <program> <argument>…` starts the program for each connection, which is its
 * standard input and output. Prints `ready`, and runs until it is killed.
 */
const [, , socket = "", ...argv] = process.argv;
const libc = dlopen("libc.so.6", { accept: { args: ["i32", "ptr", "ptr"], returns: "i32" } }).symbols;

process.umask(0o177);
const listening = listenUnix(socket);
process.stdout.write("ready\n");
for (;;) {
  // Blocks, and with it this process: what it has started doesn't need it.
  const connection = libc.accept(listening, null, null);
  if (connection < 0) continue;
  Bun.spawn(argv, { stdio: [connection, connection, 2], env: { PATH: "/usr/bin:/bin" } }).unref();
  closeSync(connection);
}
