import { describe, expect, test } from "bun:test";
import { canonicalHash } from "../src/canonical.ts";
import { cargo } from "../src/cargo.ts";
import { type Result, resultPath, type Undo } from "../src/doc-result.ts";
import type { Ecosystem } from "../src/eco.ts";
import { isAllowedArgv } from "../src/eco-argv.ts";
import { treeDigest } from "../src/eco-stage.ts";
import { go } from "../src/go.ts";
import { npm } from "../src/npm.ts";
import { pip } from "../src/pip.ts";
import { makePlan } from "../src/plan.ts";
import { cyclonedx } from "../src/plan-sbom.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { STATE } from "../src/sys-state.ts";
import { planning as fakePlanning } from "./osv-kit.ts";

/*
 * Planning the rollback of a managed root, by records of a table.
 */

const id = (n: number) => `0b7b4a3e-7c9e-4f6a-9a44-${String(n).padStart(12, "0")}`;
const EMPTY = treeDigest(new Map());
const [ONE, TWO, THREE] = ["1", "2", "3"].map((digit) => digit.repeat(64)) as [string, string, string];
const undo = (key: string, before: string | null, left: string | null): Undo => ({
  ...{ package: key, architecture: "all", before, left },
});

function record(n: number, before: string, after: string, change: Partial<Result> = {}): Result {
  return {
    ...{ schema_version: "1.0", execution_plan_id: id(n), plan_id: id(900 + n), tool: "npm", argv: ["npm"] },
    ...{ state: "completed", exit_status: 0, code: null, message: null, actor: "ops", turn_at: null },
    started_at: `2026-01-02T03:04:${String(n).padStart(2, "0")}.000Z`,
    ended_at: "2026-01-02T04:00:00.000Z",
    ...{ submitted_by_uid: 0, not_as_planned: [], changed_besides: [] },
    inverse: [undo("greeter", "1.0.0", "1.1.0")],
    content: { before, after },
    ...change,
  };
}

/** `now` is what the root holds; every execution's previous content is kept, unless `kept` names others. */
interface Host {
  records?: readonly Result[];
  now?: string | null;
  kept?: readonly string[];
  files?: Readonly<Record<string, string>>;
}

const INSTALLED = record(1, EMPTY, ONE, { inverse: [undo("greeter", null, "1.0.0")] });
const UPGRADED = record(2, ONE, TWO);

function plan(
  execution: string,
  { records = [INSTALLED, UPGRADED], now = TWO, ...host }: Host = {},
  of = npm,
) {
  const texts = Object.fromEntries(
    records.map((one) => [resultPath(one.execution_plan_id), JSON.stringify(one)]),
  );
  const files: Record<string, string> = { ...texts, ...host.files };
  const kept = host.kept ?? records.map((one) => one.execution_plan_id);
  const asked: string[] = [];
  return makePlan(of, "rollback", [execution], {
    ...fakePlanning({}),
    now: new Date("2026-01-02T05:00:00Z"),
    readText: (path) => files[path] ?? null,
    list(path) {
      asked.push(path);
      if (path === STATE.results) return Object.keys(files).map((file) => file.slice(path.length + 1));
      return path.startsWith("/var/lib/aegis/previous/") ? [...kept].sort() : [];
    },
    contentOf: () => Promise.resolve(now),
  });
}

const decide = (document: Awaited<ReturnType<typeof plan>>, toml = "") =>
  evaluate({
    plan: document,
    planHash: canonicalHash(document),
    config: parsePolicyConfig(toml, "test"),
    configHash: "0".repeat(64),
  });

describe("what can't be undone, why, and what to type", () => {
  const REFUSED: [what: string, host: Host, code: string, message: RegExp, hint: string][] = [
    ["no outcome that can be read", { records: [] }, "not_found", /no outcome of execution/, "aegis-admin"],
    [
      "another execution's outcome under its name",
      { files: { [resultPath(id(2))]: JSON.stringify(INSTALLED) } },
      ...(["not_found", /not that execution's/, ""] as const),
    ],
    [
      "a malformed outcome",
      { files: { [resultPath(id(2))]: "{" } },
      ...(["not_found", /not that execution's/, ""] as const),
    ],
    [
      "an execution of another ecosystem",
      { records: [{ ...UPGRADED, tool: "pip" }] },
      ...(["invalid_target", /is one of pip/, `aegis plan rollback ${id(2)}`] as const),
    ],
    [
      "one that is running",
      { records: [{ ...UPGRADED, state: "running" }] },
      ...(["busy", /still running/, `aegis apply --watch ${id(2)}`] as const),
    ],
    [
      "undone already, by an execution",
      { records: [INSTALLED, UPGRADED, record(3, TWO, ONE)], now: ONE },
      ...([
        "drift",
        /undone already.*000000000003$/,
        `To undo that in turn: aegis plan rollback ${id(3)}`,
      ] as const),
    ],
    [
      "undone already, by hand",
      { now: ONE },
      ...(["drift", /undone already/, "aegis plan npm install greeter@1.0.0"] as const),
    ],
    [
      "a later execution",
      { records: [INSTALLED, UPGRADED, record(3, TWO, THREE)], now: THREE },
      ...(["drift", /000000000003 came after/, `Undo that first: aegis plan rollback ${id(3)}`] as const),
    ],
    [
      "the root was changed by hand since",
      { now: THREE },
      ...([
        "drift",
        /is not what execution .* left: something other/,
        "aegis plan npm install greeter@1.0.0",
      ] as const),
    ],
    [
      "the root is gone",
      { now: null },
      "drift",
      /is not what execution/,
      "aegis plan npm install greeter@1.0.0",
    ],
    [
      "what it replaced is not kept any more",
      { kept: [id(1), id(3)] },
      ...(["not_found", /isn't kept any more/, "aegis plan npm install greeter@1.0.0"] as const),
    ],
    [
      "not kept, but a later execution made the same change again",
      { records: [INSTALLED, UPGRADED, record(3, TWO, ONE), record(4, ONE, TWO)], kept: [id(1), id(4)] },
      ...(["not_found", /isn't kept any more/, `undo that: aegis plan rollback ${id(4)}`] as const),
    ],
    [
      "not kept, and there was nothing before",
      { records: [{ ...INSTALLED, execution_plan_id: id(2) }], now: ONE, kept: [] },
      ...(["not_found", /isn't kept any more/, "There was no earlier version"] as const),
    ],
  ];
  for (const [what, host, code, message, hint] of REFUSED) {
    test(what, async () => {
      const refused = plan(id(2), host);
      await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
      await expect(refused).rejects.toMatchObject({ hint: expect.stringContaining(hint) });
    });
  }

  test("content that was not made by executions alone comes back for nobody", async () => {
    const before = record(1, THREE, ONE);
    const document = await plan(id(2), { records: [before, UPGRADED] });
    expect(document.warnings.join()).toContain("did not all come by executions");
    expect(document.provenance_evidence.map(({ verified }) => verified)).toEqual([true, false]);
    const { decision, rules } = decide(document);
    expect([decision, rules]).toEqual(["deny", ["managed-rollback", "rollback-unverified"]]);
  });

  test("records that vouch for each other alone vouch for nothing", async () => {
    const around = [record(1, THREE, ONE), record(3, ONE, THREE), UPGRADED];
    const document = await plan(id(2), { records: around });
    expect(document.provenance_evidence.map(({ verified }) => verified)).toEqual([true, false]);
  });
});

describe("what comes back", () => {
  const rows = ({ transaction }: Awaited<ReturnType<typeof plan>>) =>
    transaction.map(
      ({ action, name, required_by = "", from_version, to_version }) =>
        `${action} ${name}${required_by === "" ? "" : ` (${required_by})`} ${from_version} -> ${to_version}`,
    );
  const CHANGES: [what: string, inverse: Undo[], expected: string[]][] = [
    ["an upgrade", [undo("a", "1.0.0", "1.10.0")], ["downgrade a 1.10.0 -> 1.0.0"]],
    ["a downgrade", [undo("a", "1.10.0", "1.9.0")], ["upgrade a 1.9.0 -> 1.10.0"]],
    ["an installation", [undo("a", null, "1.0.0")], ["remove a 1.0.0 -> null"]],
    ["a removal", [undo("a", "1.0.0", null)], ["install a null -> 1.0.0"]],
    ["versions that can't be compared", [undo("a", "one", "two")], ["downgrade a two -> one"]],
    ["no version, but files", [], []],
    [
      "private copies, in several versions",
      [undo("a", "1.0.0", "2.0.0"), undo("b a", "1.0.0 1.1.0", "1.1.0 2.0.0 3.0.0")],
      [
        "downgrade a 2.0.0 -> 1.0.0",
        "remove b (a 1.0.0) 2.0.0 -> null",
        "remove b (a 1.0.0) 3.0.0 -> null",
        "install b (a 1.0.0) null -> 1.0.0",
      ],
    ],
  ];
  for (const [what, inverse, expected] of CHANGES) {
    test(what, async () => {
      const document = await plan(id(2), { records: [INSTALLED, { ...UPGRADED, inverse }] });
      expect(rows(document)).toEqual(expected);
      expect(document.metadata_available).toBe(true);
      expect(document.network_access).toBe(false);
    });
  }

  test("the first installation: an empty directory, which vouches for itself", async () => {
    const document = await plan(id(1), { records: [INSTALLED], now: ONE });
    expect(rows(document)).toEqual(["remove greeter 1.0.0 -> null"]);
    const [left, replaced] = document.provenance_evidence;
    expect([left?.subject, replaced?.subject, replaced?.verified]).toEqual([ONE, EMPTY, true]);
  });

  test("of a rollback what that replaced, though the same content was there before", async () => {
    const back = record(3, TWO, ONE, { inverse: [undo("greeter", "1.1.0", "1.0.0")] });
    const document = await plan(id(3), { records: [INSTALLED, UPGRADED, back], now: ONE });
    expect(rows(document)).toEqual(["upgrade greeter 1.0.0 -> 1.1.0"]);
    expect(document.provenance_evidence[1]).toMatchObject({ subject: TWO, verified: true });
  });

  test("one execution after the other: what a rollback left is what the one before had left", async () => {
    const back = record(4, THREE, TWO);
    const records = [INSTALLED, UPGRADED, record(3, TWO, THREE), back];
    expect(rows(await plan(id(2), { records, now: TWO }))).toEqual(["downgrade greeter 1.1.0 -> 1.0.0"]);
  });

  test("an execution that changed nothing: nothing to undo", async () => {
    const { content: _, ...failed } = { ...UPGRADED, state: "failed" as const };
    for (const one of [failed, record(2, ONE, ONE)]) {
      const document = await plan(id(2), { records: [INSTALLED, one] });
      expect([document.nothing_to_do, decide(document).rules]).toEqual([true, ["nothing-to-do"]]);
    }
  });

  test("a run that failed after the exchange is undone by what it did", async () => {
    const document = await plan(id(2), { records: [INSTALLED, { ...UPGRADED, state: "interrupted" }] });
    expect(rows(document)).toEqual(["downgrade greeter 1.1.0 -> 1.0.0"]);
  });

  test("a person decides, whatever the policy says of installations", async () => {
    const document = await plan(id(2));
    for (const toml of ["", '[npm]\napply = "allow"\nminimum_age_days = 7\nrequire_provenance = true'])
      expect(decide(document, toml)).toMatchObject({
        decision: "require_human",
        rules: ["managed-rollback"],
      });
  });

  const TOOLS: [of: Ecosystem, root: string, purl: string][] = [
    [npm, "npm-global", "pkg:npm/greeter@1.0.0"],
    [pip, "pip-packages", "pkg:pypi/greeter@1.0.0"],
    [go, "go", "pkg:golang/greeter@1.0.0"],
    [cargo, "cargo", "pkg:cargo/greeter@1.0.0"],
  ];
  for (const [of, root, purl] of TOOLS) {
    test(`${of.tool}: the command to sign, and the bill of materials`, async () => {
      const records = [INSTALLED, UPGRADED].map((one) => ({ ...one, tool: of.tool }));
      const document = await plan(id(2), { records }, of);
      const argv = ["aegis", "rollback", of.tool, `/var/lib/aegis/${root}`, id(2)];
      expect([of.signedArgv(document), document.command_preview]).toEqual([argv, argv]);
      expect(isAllowedArgv(argv)).toBe(true);
      expect(document.transaction[0]?.origin).toBe(`/var/lib/aegis/previous/${root}/${id(2)}`);
      expect(cyclonedx(document, "1")).toMatchObject({ components: [{ name: "greeter", purl }] });
      expect(() => of.signedArgv({ ...document, exact_targets: [id(1), id(2)] })).toThrow("no single");
    });
  }
});
