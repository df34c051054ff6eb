import { afterAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fetchBytes, fetchJson, fetchStreamed } from "../src/sys-fetch.ts";
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

describe("a file that is elsewhere", () => {
  /** What arrives, by redirects along these locations from `/0`, and the authorization that each request had. */
  const follow = async (locations: readonly string[], redirects: boolean) => {
    const seen: string[] = [];
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch(request) {
        const { pathname } = new URL(request.url);
        seen.push(`${pathname} ${request.headers.get("authorization")}`);
        const location = locations[Number(pathname.slice(1))];
        return location === undefined
          ? new Response("it")
          : new Response("", { status: 307, headers: { location } });
      },
    });
    let text = "";
    const request = { signal: AbortSignal.timeout(5000), maxBytes: 10, headers: { authorization: "secret" } };
    const take = async (chunk: Uint8Array) => {
      text += Buffer.from(chunk).toString();
    };
    try {
      await fetchStreamed(new URL("/0", server.url), { ...request, redirects }, take);
      return { text, seen };
    } finally {
      await server.stop(true);
    }
  };
  test("is followed there without the headers", async () => {
    expect(await follow(["/1", "2"], true)).toEqual({
      text: "it",
      seen: ["/0 secret", "/1 null", "/2 null"],
    });
  });
  const REFUSED: [what: string, locations: string[], redirects: boolean][] = [
    ["unless that was asked for", ["/1"], false],
    ["over plain HTTP", ["http://registry.example/file"], true],
    ["to a file of this machine", [`file://${file}`], true],
    ["to no address", ["http://"], true],
    ["for ever", ["/1", "/2", "/3", "/4", "/5", "/6"], true],
  ];
  test.each(REFUSED)("is not followed %s", (_, locations, redirects) =>
    refuses(() => follow(locations, redirects), "unavailable", "sends elsewhere, which is not followed"),
  );
});
