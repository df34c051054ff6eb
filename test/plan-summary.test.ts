import { expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { canonicalHash } from "../src/canonical.ts";
import { assertJson } from "../src/cmd-decide.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { PlanPage, PlanSummary, planPage, planSummary } from "../src/plan-summary.ts";
import { entry, install, removal, upgrade, vulnerability } from "./policy-plans.ts";

const summaryOf = (plan: OperationPlan) => planSummary(plan, canonicalHash(plan), null);
const many = (n: number, name: (i: number) => string) => Array.from({ length: n }, (_, i) => entry(name(i)));

test("however large a plan is, its summary has its form and at most 10 kB", () => {
  const texts = fc.array(fc.string({ minLength: 1, maxLength: 400 }), { maxLength: 200 });
  fc.assert(
    fc.property(texts, fc.nat(2000), (words, n) => {
      const plan = upgrade({
        transaction: many(n, (i) => `${words[i % (words.length || 1)] ?? "x"}${i}`),
        packages_held_back: words,
        warnings: words,
        scripts: words.slice(0, 50).map((body) => ({ package: body, name: body, body })),
        targets: words,
        command_preview: ["apt-get", ...words],
      });
      const summary = summaryOf(plan);
      v.parse(PlanSummary, summary);
      const shown = summary.packages.length + (summary.left_out["packages"] ?? 0);
      // A character can take six bytes: a control character is escaped.
      return JSON.stringify(summary).replace(/\\u[0-9a-f]{4}/g, "x").length <= 10_000 && shown === n;
    }),
    { numRuns: 60 },
  );
});

test("what is removed comes first, and nothing is cut without a count", () => {
  const plan = upgrade({ transaction: [...many(300, (i) => `library-${i}`), removal("nginx")] });
  const { packages, counts, left_out } = summaryOf(plan);
  expect(packages[0]).toStartWith("remove nginx:amd64 ");
  expect(counts).toEqual({ upgrade: 300, remove: 1 });
  expect(packages.length + (left_out["packages"] ?? 0)).toBe(301);
});

test("a vulnerability of the version to be installed is named with its severity, one of the old version as fixed", () => {
  const [first] = install().transaction;
  const of = { package: first?.name ?? "", version: first?.to_version ?? "" };
  const plan = install({
    vulnerability_evidence: [
      vulnerability({
        severity: "critical",
        ...of,
        id: "CVE-2026-0001",
        applies_to: "new",
        fixed_version: null,
      }),
      vulnerability({
        severity: "high",
        ...of,
        version: "0.1",
        id: "CVE-2020-0001",
        applies_to: "old",
        fixed_version: null,
      }),
    ],
  });
  const { vulnerabilities, vulnerabilities_fixed } = summaryOf(plan);
  expect(vulnerabilities).toEqual([`${first?.name}: CVE-2026-0001 (critical)`]);
  expect(vulnerabilities_fixed).toEqual([`${first?.name}: CVE-2020-0001 (high)`]);
});

test("a plan with nothing to do has no decision", () => {
  const plan = install({ nothing_to_do: true, transaction: [] });
  const decided = { decision: "deny" as const, rules: ["x"], reasons: ["y"] };
  const policy = { ...decided, required_controls: [], approvals_required: 0 };
  expect(planSummary(plan, canonicalHash(plan), policy).policy).toBeNull();
});

test("--summary without --json is refused: what people see is a summary already", () => {
  const io = { json: false } as const;
  expect(() => assertJson(true, io)).toThrow("--summary goes with --json");
  assertJson(true, { json: true });
  assertJson(false, io);
});

test("the pages of a plan hold its whole transaction once, in order, each within 10 kB", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(500), { maxLength: 200 }), (sizes) => {
      const transaction = sizes.map((size, n) => ({
        ...entry(`p${n}`),
        source: "x".repeat(size + 1),
      }));
      const plan = upgrade({ transaction });
      const read = (page: number) => v.parse(PlanPage, planPage(plan, canonicalHash(plan), page));
      const pages = Array.from({ length: read(1).pages }, (_, n) => read(n + 1));
      expect(pages.flatMap((one) => one.transaction)).toEqual(plan.transaction);
      for (const [n, { page, first, entries, transaction: some }] of pages.entries()) {
        expect([page, first, entries]).toEqual([
          n + 1,
          pages.slice(0, n).reduce((sum, one) => sum + one.transaction.length, 0),
          transaction.length,
        ]);
        expect(JSON.stringify(read(n + 1)).length).toBeLessThan(10_000);
        expect(some.length > 0 || transaction.length === 0).toBe(true);
      }
      expect(() => read(pages.length + 1)).toThrow(`the plan has ${pages.length} page`);
      expect(() => read(0)).toThrow("the plan has");
    }),
    { numRuns: 50 },
  );
});
