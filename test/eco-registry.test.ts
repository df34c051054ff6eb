import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createServer } from "node:net";
import { join } from "node:path";

/*
 * The closed registry of a run as the process that it is: it answers what it was given, by the method that each route is for, and says
 * what it was asked for besides.
 */

const ROUTES = {
  "/package": { body: "one", type: "text/plain" },
  "/search?id=a": { body: "of a", type: "text/plain" },
  "POST /extensionquery": { body: '{"results":[]}', type: "application/json" },
};

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  return typeof address === "object" && address !== null ? address.port : 0;
}

describe("the closed registry", () => {
  let child: Bun.Subprocess<Blob, "pipe", "inherit">;
  let base = "";
  const said: string[] = [];

  beforeAll(async () => {
    const port = await freePort();
    base = `http://127.0.0.1:${port}`;
    const module = join(import.meta.dir, "../src/eco-registry.ts");
    const script = `import { serveClosedRegistry } from ${JSON.stringify(module)}; await serveClosedRegistry(() => Bun.stdin.text());`;
    child = Bun.spawn([process.execPath, "-e", script], {
      stdin: new Blob([JSON.stringify({ port, routes: ROUTES })]),
      stdout: "pipe",
      stderr: "inherit",
    });
    const lines = child.stdout.pipeThrough(new TextDecoderStream());
    const isReady = Promise.withResolvers<void>();
    void (async () => {
      for await (const text of lines) {
        said.push(...text.split("\n").filter((line) => line !== ""));
        if (said.includes("ready")) isReady.resolve();
      }
    })();
    await isReady.promise;
  });
  afterAll(() => child.kill());

  const ask = async (method: string, path: string, body?: string) => {
    const answer = await fetch(`${base}${path}`, { method, ...(body === undefined ? {} : { body }) });
    return [answer.status, answer.headers.get("content-type"), await answer.text()];
  };

  test.each([
    ["GET", "/package", "one"],
    ["GET", "/package?any=query", "one"],
    ["GET", "/search?id=a", "of a"],
    ["HEAD", "/package", ""],
    ["POST", "/extensionquery", '{"results":[]}'],
    ["POST", "/extensionquery?api=3", '{"results":[]}'],
  ])("answers %s %s", async (method, path, body) =>
    expect(await ask(method, path, method === "POST" ? "{}" : undefined)).toEqual([
      ...[200, method === "POST" ? "application/json" : "text/plain", body],
    ]),
  );
  test.each([
    ["GET", "/extensionquery", "/extensionquery"],
    ["PUT", "/extensionquery", "PUT /extensionquery"],
    ["POST", "/package", "POST /package"],
    ["POST", "/other", "POST /other"],
    ["DELETE", "/package", "DELETE /package"],
    ["GET", "/search?id=b", "/search?id=b"],
    ["GET", "/POST%20/extensionquery", "/POST%20/extensionquery"],
  ])("answers %s %s with 404, and says so", async (method, path, line) => {
    expect((await ask(method, path))[0]).toBe(404);
    while (!said.includes(line)) await Bun.sleep(1);
    expect(said.filter((one) => one === line)).toHaveLength(1);
  });
  test("takes no large body", async () =>
    expect((await ask("POST", "/extensionquery", "x".repeat(65 * 1024)))[0]).toBe(413));
});
