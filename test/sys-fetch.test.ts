import { afterAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fetchBytes, fetchJson } from "../src/sys-fetch.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path: directory, remove } = temporaryDirectory();
afterAll(remove);
const file = join(directory, "secret.json");
writeFileSync(file, '{"secret":1}');

/* Bun's fetch answers these by itself; a registry may name any of them as a file's address, and root asks. */
describe("only HTTP is asked", () => {
  for (const address of [
    `file://${file}`,
    "data:application/json,{}",
    "s3://bucket/file",
    "ftp://127.0.0.1/file",
    "blob:x",
  ]) {
    test(address.slice(0, 24), async () => {
      const request = { signal: AbortSignal.timeout(5000), maxBytes: 1000 };
      await refuses(() => fetchBytes(new URL(address), request), "unavailable", "addresses are not asked");
      await refuses(() => fetchJson(new URL(address), request), "unavailable", "addresses are not asked");
    });
  }
  test("which is", async () => {
    const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("yes") });
    try {
      const { bytes } = await fetchBytes(server.url, { signal: AbortSignal.timeout(5000), maxBytes: 1000 });
      expect(Buffer.from(bytes).toString()).toBe("yes");
    } finally {
      await server.stop(true);
    }
  });
});
