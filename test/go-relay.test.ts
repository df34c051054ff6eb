import { expect, test } from "bun:test";
import { AegisError } from "../src/errors.ts";
import { type Relay, startRelay } from "../src/go-relay.ts";

async function withRelay(work: (relay: Relay, status: (path: string) => Promise<number>) => Promise<void>) {
  const asked: string[] = [];
  const relay = startRelay((path) => {
    asked.push(path);
    if (path.includes("broken")) return Promise.reject(new AegisError("unavailable", "it answers 500"));
    const isThere = path.startsWith("a.example/");
    return Promise.resolve(isThere ? { url: new URL("https://x.example"), bytes: Buffer.from(path) } : null);
  });
  try {
    await work(relay, async (path) => (await fetch(`${relay.address}/${path}`, { proxy: "" })).status);
  } finally {
    await relay.close();
  }
  return asked;
}

test("answers what a module graph takes, and remembers what it gave", async () => {
  const asked = await withRelay(async (relay, status) => {
    expect(await status("a.example/!b/@v/v1.0.0+incompatible.mod")).toBe(200);
    expect(await status("a.example/!b/@v/v1.0.0+incompatible.mod")).toBe(200);
    expect(await status("a.example/!b/@v/list")).toBe(200);
    expect(await status("a.example/!b/@latest")).toBe(200);
    expect(await status("none.example/@v/v1.0.0.info")).toBe(404);
    expect(relay.served).toEqual([
      "a.example/!b/@v/v1.0.0+incompatible.mod",
      "a.example/!b/@v/list",
      "a.example/!b/@latest",
    ]);
    expect(relay.failure).toBeNull();
  });
  expect(asked).toHaveLength(5);
});

test("nothing else is passed on: other files, other paths, other methods", async () => {
  const asked = await withRelay(async (relay, status) => {
    const { origin } = new URL(relay.address);
    for (const path of ["a.example/@v/v1.0.0.zip", "sumdb/sum.example/supported", "a.example", ""])
      expect(await status(path)).toBe(404);
    for (const [url, method] of [
      [`${origin}/a.example/@v/list`, "GET"],
      [`${origin}/`, "GET"],
      [`${relay.address}x/a.example/@v/list`, "GET"],
      [`${relay.address}/a.example/@v/list`, "POST"],
    ] as const)
      expect((await fetch(url, { method, proxy: "" })).status).toBe(404);
  });
  expect(asked).toEqual([]);
});

test("the first failure is kept, for the message", async () => {
  await withRelay(async (relay, status) => {
    expect(await status("broken.example/@v/list")).toBe(500);
    expect(relay.failure?.error).toBeInstanceOf(AegisError);
  });
});
