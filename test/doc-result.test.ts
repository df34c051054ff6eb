import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { findExecution, parseResult, type Result, readResult } from "../src/doc-result.ts";
import { installStateWorker } from "./kit.ts";
import { refuses } from "./signing-kit.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

const ID = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";
const OTHER = "1b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";
const RESULT: Result = {
  schema_version: "1.0",
  execution_plan_id: ID,
  plan_id: "11111111-2222-4333-8444-555555555555",
  tool: "apt",
  argv: ["apt-get", "install", "-y", "hello=1.0-2"],
  state: "completed",
  exit_status: 0,
  code: null,
  message: null,
  actor: "ops (key ops)",
  turn_at: "2026-01-02T03:09:58.000Z",
  started_at: "2026-01-02T03:10:00.000Z",
  ended_at: "2026-01-02T03:10:05.000Z",
  submitted_by_uid: 61001,
  not_as_planned: [],
  changed_besides: [{ package: "x", architecture: "all", expected: null, found: "1 installed" }],
  inverse: [{ package: "hello", architecture: "amd64", before: "1.0-1", left: "1.0-2" }],
};

/** Right characters and length, wrong form. */
const MISSHAPEN = [
  "-".repeat(36),
  "0".repeat(36),
  `${ID.slice(1, 9)}${ID[0]}${ID.slice(9)}`,
  `-${ID.slice(1)}`,
];

describe("an invalid id", () => {
  const CASES = ["", "latest", "../../../etc/passwd", ID.slice(1), `${ID}/`, `${ID}\n`, ID.toUpperCase()];
  for (const id of [...CASES, ...MISSHAPEN])
    test(JSON.stringify(id), () => refuses(() => readResult(id), "usage", "full id"));
});

test("an outcome written by an older version lacks tool, inverse, signer and turn_at", () => {
  const { inverse: _, actor: __, turn_at: ___, tool: ____, ...older } = RESULT;
  expect(parseResult(JSON.stringify(older))).toEqual({
    ...RESULT,
    inverse: null,
    actor: null,
    turn_at: null,
  });
  for (const bad of [{ ...RESULT, inverse: [{ package: "x" }] }, { ...RESULT, inverse: "none" }, {}])
    expect(() => parseResult(JSON.stringify(bad))).toThrow();
});

describe("findExecution with", () => {
  for (const reference of ["1b7b4a3", "../1b7b4a3e", "1b7b4a3e*", "hello", ...MISSHAPEN])
    test(`${reference}: none`, () => expect(() => findExecution(reference)).toThrow());
  test("its full id", () => expect(findExecution(ID)).toBe(ID));
});

describeOnThrowaway("results, as root writes and people read them", () => {
  const DIRECTORY = "/var/lib/aegis/results";
  let host: ThrowawayHost;
  let worker: string[];
  beforeAll(async () => {
    host = await startHost();
    worker = await installStateWorker(host);
  });
  afterAll(() => host.stop());
  const call = async (step: string, word: string) => {
    const { stdout } = await host.exec([...worker, step, word]);
    return /^[[{n"]/.test(stdout) ? JSON.parse(stdout) : stdout.trim();
  };
  const write = (result: Partial<Result> = {}) => call("write", JSON.stringify({ ...RESULT, ...result }));
  const path = () => join(host.path(DIRECTORY), `${ID}.json`);
  beforeEach(async () => {
    await call("prepare", "");
    for (const name of readdirSync(host.path(DIRECTORY)))
      rmSync(join(host.path(DIRECTORY), name), { recursive: true });
  });

  const SPOILT: [name: string, spoil: () => void, says: string][] = [
    ["another owner", () => chownSync(path(), 61002, 0), "refused: "],
    ["group may write", () => chmodSync(path(), 0o660), "refused: "],
    ["others may write", () => chmodSync(path(), 0o646), "refused: "],
    [
      "a symbolic link",
      () => {
        rmSync(path());
        symlinkSync("../elsewhere.json", path());
      },
      "io: ",
    ],
    [
      "a directory",
      () => {
        rmSync(path());
        mkdirSync(path());
      },
      "refused: ",
    ],
    ["not JSON", () => host.write(`${DIRECTORY}/${ID}.json`, "{"), "invalid_document: "],
    [
      "an extra field",
      () => host.write(`${DIRECTORY}/${ID}.json`, JSON.stringify({ ...RESULT, ok: true })),
      "",
    ],
    [
      "another state",
      () => host.write(`${DIRECTORY}/${ID}.json`, JSON.stringify({ ...RESULT, state: "fine" })),
      "",
    ],
  ];
  for (const [name, spoil, says] of SPOILT) {
    test(`not trusted: ${name}`, async () => {
      await write();
      host.write("/var/lib/aegis/elsewhere.json", JSON.stringify(RESULT));
      spoil();
      const said = await call("read", ID);
      expect(said).toBeString();
      expect(said).toStartWith(says);
    });
  }

  test("a written outcome is read back; the admin group can read it, others can't", async () => {
    expect(await call("read", ID)).toBeNull();
    await write();
    expect(await call("read", ID)).toEqual(RESULT);
    const { mode, uid, gid } = statSync(path());
    expect([mode & 0o777, uid, gid]).toEqual([0o640, 0, 61003]);
    await write({ state: "failed", exit_status: 100, code: "execution_failed", message: "apt failed" });
    expect(await call("read", ID)).toMatchObject({ state: "failed", exit_status: 100 });
    const cat = (user: "alice" | "bob") => host.exec(["cat", `${DIRECTORY}/${ID}.json`], { user });
    expect([(await cat("alice")).status, (await cat("bob")).status]).toEqual([0, 1]);
  });

  test("newest first, up to the limit; other files are ignored", async () => {
    await write();
    await write({ execution_plan_id: OTHER, started_at: "2026-01-03T00:00:00Z" });
    host.write(`${DIRECTORY}/.${ID}.json.tmp`, "half");
    host.write(`${DIRECTORY}/README`, "x");
    const ids = async (limit: number) =>
      (await call("recent", String(limit))).map((result: Result) => result.execution_plan_id);
    expect([await ids(10), await ids(1), await ids(0)]).toEqual([[OTHER, ID], [OTHER], []]);
  });

  test("directories that others can write are refused", async () => {
    chmodSync(host.path(DIRECTORY), 0o770);
    expect(await call("prepare", "")).toContain(`io: ${DIRECTORY} must be a directory that belongs to root`);
    chmodSync(host.path(DIRECTORY), 0o750);
    chownSync(host.path("/var/lib/aegis"), 61002, 0);
    expect(await call("prepare", "")).toStartWith("io: /var/lib/aegis must be");
    chownSync(host.path("/var/lib/aegis"), 0, 0);
  });
});
