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

test("only files that are long unused are removed: what else is there stops no planning", async () => {
  const cache = newCache();
  writeFileSync(join(cache, "old"), "");
  writeFileSync(join(cache, "new"), "");
  mkdirSync(join(cache, "kept"));
  for (const name of ["old", "kept"]) utimesSync(join(cache, name), 1, 1);
  expect(await fetched(cache)).toBe("a package");
  expect(["old", "new", "kept"].map((name) => existsSync(join(cache, name)))).toEqual([false, true, true]);
});
