import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { reviewerService, reviewKeys, reviewModel } from "../src/doctor-review.ts";
import { fails, startModelServer } from "./model-server.ts";
import { REVIEWER, STRANGER } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path: home, remove } = temporaryDirectory();
afterAll(remove);

const KEY = REVIEWER.publicKeyHex;
let n = 0;
/** An environment whose policy is this, on a machine that has no other. */
function env(toml: string, more: Record<string, string> = {}) {
  const file = join(home, `${n++}.toml`);
  writeFileSync(file, toml);
  return { HOME: home, AEGIS_POLICY_CONFIG: file, ...more };
}
const OPTIONAL = "";
const REQUIRED = `[review]\nrequired = true\npublic_keys = ["${KEY}"]\n`;
const levels = [
  ["warn", OPTIONAL],
  ["fail", REQUIRED],
] as const;

describe("the model", () => {
  const one = async (toml: string, more: Record<string, string>) => {
    const findings = await reviewModel(env(toml, more));
    expect(findings).toHaveLength(1);
    return findings[0];
  };

  for (const [level, toml] of levels) {
    test(`${level}: no answer`, async () => {
      const server = startModelServer();
      server.stop();
      expect(await one(toml, { AEGIS_AI_BASE_URL: server.url })).toMatchObject({
        check: "model",
        level,
        message: expect.stringContaining(new URL(server.url).host),
        fix: expect.stringMatching(/\S/),
      });
    });
    test(`${level}: it answers with an error`, async () => {
      using server = startModelServer([fails(500)], []);
      expect(await one(toml, { AEGIS_AI_BASE_URL: server.url })).toMatchObject({ level });
    });
    test(`${level}: it never answers`, async () => {
      using server = startModelServer([(_asked, ended) => ended.then(() => new Response())], []);
      const more = { AEGIS_AI_BASE_URL: server.url, AEGIS_AI_MODELS_TIMEOUT_SECS: "1" };
      expect(await one(toml, more)).toMatchObject({ level });
    });
    test(`${level}: the server has another model`, async () => {
      using server = startModelServer(undefined, ["a", "b", "c", "d", "e", "f"]);
      expect(await one(toml, { AEGIS_AI_BASE_URL: server.url })).toMatchObject({
        level,
        message: expect.stringMatching(/^deepseek-v4-flash at 127.0.0.1:\d+: .*does not have this model/),
        fix: expect.stringContaining("a, b, c, d, e, …"),
      });
    });
    test(`${level}: an invalid variable`, async () => {
      expect(await one(toml, { AEGIS_AI_MAX_OUTPUT_TOKENS: "many" })).toMatchObject({
        level,
        message: expect.stringContaining("AEGIS_AI_MAX_OUTPUT_TOKENS"),
      });
    });
    test(`${level}: a remote model, not allowed`, async () => {
      expect(await one(toml, { AEGIS_AI_BASE_URL: "http://model.invalid/v1" })).toMatchObject({
        level,
        fix: expect.stringContaining("AEGIS_AI_ALLOW_REMOTE=1"),
      });
    });
    test(`ok, whatever the policy demands (${level})`, async () => {
      using server = startModelServer(undefined, ["other", "mine"]);
      const more = { AEGIS_AI_BASE_URL: server.url, AEGIS_AI_MODEL: "mine" };
      expect(await one(toml, more)).toEqual({
        check: "model",
        level: "ok",
        message: `mine at ${new URL(server.url).host}`,
        fix: "",
      });
      expect(server.asked.map(({ method, path }) => [method, path])).toEqual([["GET", "/v1/models"]]);
    });
  }
  test("a policy that can't be read is reported by the policy check", async () => {
    const server = startModelServer();
    server.stop();
    expect(await one("nonsense = [", { AEGIS_AI_BASE_URL: server.url })).toMatchObject({ level: "warn" });
  });
});

describe("the reviewer", () => {
  const open: Server[] = [];
  afterEach(() => {
    for (const server of open.splice(0)) server.close();
  });
  /** A reviewer that answers every call with this. */
  const reviewer = async (answer: object) => {
    const path = join(home, `${n++}.sock`);
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", () => socket.end(`${JSON.stringify(answer)}\0`));
    });
    open.push(server);
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return path;
  };
  const STATUS = { parameters: { model: "m", public_key_hex: KEY, asking: 1, waiting: 2 } };

  for (const [level, toml] of levels) {
    test(`${level}: none is running`, async () => {
      expect(await reviewerService(env(toml), join(home, "none.sock"))).toEqual([
        {
          check: "reviewer",
          level,
          message: expect.stringContaining("no reviewer"),
          fix: expect.stringContaining("aegis daemon --reviewer"),
        },
      ]);
    });
    test(`${level}: a stale socket`, async () => {
      const path = await reviewer(STATUS);
      const [server] = open.splice(0);
      // Bun removes the socket's file when the server closes; one that was killed leaves it.
      await new Promise<void>((resolve) => server?.close(() => resolve()));
      Bun.spawnSync([
        "python3",
        "-c",
        `import socket; socket.socket(socket.AF_UNIX).bind(${JSON.stringify(path)})`,
      ]);
      expect(await reviewerService(env(toml), path)).toMatchObject([{ level, check: "reviewer" }]);
    });
    test(`${level}: a nonsense answer`, async () => {
      const path = await reviewer({ parameters: { model: 1 } });
      expect(await reviewerService(env(toml), path)).toMatchObject([{ level, check: "reviewer" }]);
    });
    test(`ok, whatever the policy demands (${level})`, async () => {
      expect(await reviewerService(env(toml), await reviewer(STATUS))).toEqual([
        { check: "reviewer", level: "ok", message: "answers; model: m, asking: 1, waiting: 2", fix: "" },
      ]);
    });
  }
  test("fail: the path is not a socket", async () => {
    const path = join(home, "file");
    writeFileSync(path, "");
    expect(await reviewerService(env(OPTIONAL), path)).toMatchObject([{ level: "fail" }]);
  });
  test("warn: reviews are required from another reviewer", async () => {
    const toml = `[review]\nrequired = true\npublic_keys = ["${STRANGER.publicKeyHex}"]\n`;
    expect(await reviewerService(env(toml), await reviewer(STATUS))).toEqual([
      {
        check: "reviewer",
        level: "warn",
        message: expect.stringContaining("does not accept this reviewer's"),
        fix: expect.stringContaining(KEY),
      },
    ]);
  });
});

describe("reviewKeys", () => {
  const CASES: [name: string, toml: string, findings: object[]][] = [
    [
      "required, of nobody",
      "[review]\nrequired = true\n",
      [{ check: "review", level: "warn", message: expect.stringContaining("trusts no reviewer") }],
    ],
    ["required, of someone", REQUIRED, []],
    ["not required", OPTIONAL, []],
    ["a policy that can't be read", "nonsense = [", []],
  ];
  for (const [name, toml, findings] of CASES)
    test(name, () => expect(reviewKeys(env(toml))).toMatchObject(findings));
});
