import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import { parseArgs } from "../src/cmd-args.ts";
import { applyList, planList } from "../src/cmd-lists.ts";
import type { ArgsSpec, Io, Subcommand } from "../src/command.ts";
import { documentPath, saveDocument } from "../src/doc-store.ts";
import { evaluate } from "../src/policy.ts";
import { install, upgrade } from "./policy-plans.ts";
import { configOf, execution, refuses } from "./signing-kit.ts";
import { startRunner } from "./varlink-kit.ts";

const root = mkdtempSync(join(tmpdir(), "aegis-lists-"));
afterAll(() => rmSync(root, { recursive: true }));
let env: Record<string, string> = {};
beforeEach(() => {
  const home = mkdtempSync(join(root, "home-"));
  env = { HOME: home, XDG_DATA_HOME: join(home, "data") };
});

async function run<A extends ArgsSpec>(command: Subcommand<A>, words: readonly string[] = [], width = 0) {
  const ran = { status: -1, json: {} as Record<string, unknown>, text: "" };
  const io: Io = {
    env,
    json: false,
    terminal: { interactive: width > 0, colour: width > 0, width: width || 80 },
    readStdin: async () => "",
    result: (json, text) =>
      Object.assign(ran, { json: JSON.parse(JSON.stringify(json)), text: Bun.stripANSI(text) }),
    note: () => {},
  };
  ran.status = await command.run(parseArgs(command.name, command.args, words).values, io);
  return ran;
}
const ids = [
  "11111111-0000-4000-8000-000000000001",
  "22222222-0000-4000-8000-000000000002",
  "33333333-0000-4000-8000-000000000003",
] as const;
/** Saves plans, each a minute younger than the one before. */
function save(...plans: ReturnType<typeof install>[]) {
  for (const [n, plan] of plans.entries()) {
    saveDocument("plan", plan, env);
    utimesSync(documentPath("plan", plan.plan_id, env), 1000 + 60 * n, 1000 + 60 * n);
  }
}

for (const command of [planList, applyList])
  test.each(["0", "-1", "x", "99999", "1.5"])(`${command.name} --last=%s is refused`, (last) =>
    refuses(() => run(command, [`--last=${last}`]), "usage", "is not a number"),
  );

describe("plan list", () => {
  test("none yet", async () => {
    expect(await run(planList)).toEqual({
      status: 0,
      json: { plans: [], unreadable: [], left_out: 0 },
      text: "No plans yet. Start with: aegis plan --help",
    });
  });
  test("the newest first, with the decision beside each; files that are no plans are named", async () => {
    const plan = install({ plan_id: ids[1] });
    save(upgrade({ plan_id: ids[0] }), plan, install({ plan_id: ids[2], nothing_to_do: true }));
    const { config, hash } = configOf();
    const result = evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
    saveDocument("policy", result, env);
    const bad = join(dirname(documentPath("plan", ids[0], env)), "44444444-0000-4000-8000-000000000004.json");
    writeFileSync(bad, "{");
    const { json, text } = await run(planList);
    expect(json).toMatchObject({
      plans: [
        { plan_id: ids[2], nothing_to_do: true, decision: null },
        {
          plan_id: ids[1],
          request: "apt install hello",
          decision: "require_human",
          fresh_until: result.evidence_fresh_until,
        },
        { plan_id: ids[0], request: "apt upgrade", decision: null, path: documentPath("plan", ids[0], env) },
      ],
      unreadable: [bad],
      left_out: 0,
    });
    expect(
      text
        .split("\n")
        .slice(1, 4)
        .map((line) => line.split(/ {2,}/)[2]),
    ).toEqual(["nothing to do", "require_human (stale)", "–"]);
  });
  test("--last reads no more than that, and says so", async () => {
    save(upgrade({ plan_id: ids[0] }), install({ plan_id: ids[1] }), install({ plan_id: ids[2] }));
    const { json, text } = await run(planList, ["--last", "1"]);
    expect(json).toMatchObject({ plans: [{ plan_id: ids[2] }], left_out: 2 });
    expect(text).toContain("and 2 older ones: --last <n>");
  });
  test("a terminal of 80 columns: nothing is wider, nothing is cut", async () => {
    save(install({ plan_id: ids[0], targets: Array.from({ length: 20 }, (_, n) => `package-${n}`) }));
    const { text } = await run(planList, [], 80);
    expect(text.split("\n").every((line) => line.length <= 80)).toBe(true);
    expect(text.replaceAll(/[\s│]/g, "")).toContain("package-19");
    expect(text).toContain(`2026-01-02 03:04  ${ids[0]}  –\n`);
  });
});

describe("apply list", () => {
  const SOCKET = ["--socket", join(root, "none.sock")];
  test("without an executor: only one's own, and why", async () => {
    const { status, json, text } = await run(applyList, SOCKET);
    expect(status).toBe(0);
    expect(json).toMatchObject({ executions: [], executor_error: expect.stringContaining("none.sock") });
    expect(text).toContain("Only your own are listed: ");
  });
  test("own signed plans that never ran", async () => {
    const signed = await execution();
    saveDocument("execution", signed, env);
    const { json, text } = await run(applyList, SOCKET);
    expect(json.executions).toMatchObject([
      {
        execution_id: signed.execution_plan_id,
        own: true,
        state: "expired",
        actor: signed.signer_identity,
        started_at: null,
      },
    ]);
    expect(text.split("\n")[1]).toContain(signed.execution_plan_id);
  });
  test("the executor's latest and one's own, each once, the newest first", async () => {
    const path = join(mkdtempSync(join(root, "run-")), "executor.sock");
    const signed = await execution();
    saveDocument("execution", signed, env);
    const outcome = (id: string, started_at: string, state: string, more: object = {}) => ({
      ...{
        execution_id: id,
        state,
        started_at,
        command: `apt-get install -y ${id[0]}`,
        actor: "ops@example",
      },
      ...more,
    });
    const failed = { exit_status: 100, code: "execution_failed", message: "no space" };
    const recent = [
      outcome(ids[0], "2026-01-05T00:00:00.000Z", "running"),
      outcome(ids[1], "2026-01-03T00:00:00.000Z", "failed", failed),
      outcome(signed.execution_plan_id, "2026-01-04T00:00:00.000Z", "completed", { exit_status: 0 }),
    ];
    const server = await startRunner(path, (_, reply) =>
      reply({ parameters: { running: ids[0], queued: [], recent } }),
    );
    try {
      const { json, text } = await run(applyList, ["--socket", path]);
      expect(json).toMatchObject({
        executions: [
          { execution_id: ids[0], state: "running", own: false },
          {
            execution_id: signed.execution_plan_id,
            state: "completed",
            own: true,
            expires_at: signed.expires_at,
          },
          { execution_id: ids[1], state: "failed", own: false, ...failed },
        ],
        executor_error: null,
      });
      expect(text.split("\n")[3]).toBe(
        `2026-01-03 00:00  ${ids[1]}  failed: execution_failed  apt-get install -y 2  signed by ops@example`,
      );
      const narrow = (await run(applyList, ["--socket", path], 80)).text;
      expect(narrow.split("\n").every((line) => line.length <= 80)).toBe(true);
    } finally {
      server.close();
    }
  });
});
