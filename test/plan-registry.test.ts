import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import { registryAccess } from "../src/plan-registry.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path: base, remove } = temporaryDirectory();
const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("a package") });
afterAll(async () => {
  await server.stop(true);
  remove();
});

const HEX = sha256Hex("a package");
const fetched = async (cache: string, hex = HEX) => {
  const { bytes } = await registryAccess(cache).packageFile(server.url, { algorithm: "sha256", hex });
  return Buffer.from(bytes).toString();
};
let made = 0;
function newCache(): string {
  const cache = join(base, `cache-${made++}`);
  mkdirSync(cache, { mode: 0o700 });
  return cache;
}

test("a cached file that was changed is fetched again", async () => {
  const cache = newCache();
  const path = join(cache, `sha256-${HEX}`);
  writeFileSync(path, "another package");
  expect(await fetched(cache)).toBe("a package");
  expect(readFileSync(path, "utf8")).toBe("a package");
});

test.each(["../../etc/passwd", "A".repeat(64), "0".repeat(63), `${HEX}/`])("no digest: %s", async (hex) => {
  await refuses(() => fetched(newCache(), hex), "internal", "not a sha256 digest");
});

test.each(["http://r.example/x", "http://r.example:80/x", "http://10.0.0.1/x", "http://localhost.example/x"])(
  "%s is asked for nothing, be it in the cache or not",
  async (address) => {
    const cache = newCache();
    writeFileSync(join(cache, `sha256-${HEX}`), "a package");
    const { get, packageFile } = registryAccess(cache);
    const digest = { algorithm: "sha256", hex: HEX } as const;
    for (const ask of [() => get(new URL(address)), () => packageFile(new URL(address), digest)])
      await refuses(ask, "refused", "without encryption");
  },
);

test("registries that are slow at every request are given up, however short each answer takes", async () => {
  const slow = Bun.serve({
    ...{ port: 0, hostname: "127.0.0.1" },
    async fetch() {
      await Bun.sleep(40);
      return new Response("{}");
    },
  });
  const limits = { metadataMs: 5000, fileMs: 5000, totalMs: 150 };
  const { get, packageFile } = registryAccess(newCache(), undefined, limits);
  const many = async () => {
    for (let n = 0; n < 20; n++) await get(slow.url);
  };
  await refuses(many, "unavailable", "the registries have taken longer than 0.0025 minutes");
  await refuses(() => packageFile(slow.url, null), "unavailable", "the registries have taken longer");
  await slow.stop(true);
});

test("a registry that says nothing, or drips, is given up", async () => {
  const drip = async function* () {
    for (;;) {
      yield new Uint8Array(1);
      await Bun.sleep(10);
    }
  };
  const silent = Bun.serve({
    ...{ port: 0, hostname: "127.0.0.1" },
    fetch: ({ url }) => new Response(url.endsWith("drip") ? drip() : new ReadableStream({})),
  });
  const limits = { metadataMs: 100, fileMs: 100, totalMs: 60_000 };
  const { get, packageFile } = registryAccess(newCache(), undefined, limits);
  for (const path of ["silent", "drip"]) {
    const url = new URL(path, silent.url);
    await refuses(() => get(url), "unavailable", "within 0.1 seconds");
    await refuses(() => packageFile(url, null), "unavailable", "within 0.1 seconds");
  }
  await silent.stop(true);
});

test("only files that are long unused are removed: what else is there stops no planning", async () => {
  const cache = newCache();
  writeFileSync(join(cache, "old"), "");
  writeFileSync(join(cache, "new"), "");
  mkdirSync(join(cache, "kept"));
  for (const name of ["old", "kept"]) utimesSync(join(cache, name), 1, 1);
  expect(await fetched(cache)).toBe("a package");
  expect(["old", "new", "kept"].map((name) => existsSync(join(cache, name)))).toEqual([false, true, true]);
});
