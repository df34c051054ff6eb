import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import { denialOf } from "../src/cmd-decide.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { entry, install, npm, removal, remove, update, upgrade } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";

const dir = mkdtempSync(join(tmpdir(), "aegis-decide-"));
afterAll(() => rmSync(dir, { recursive: true }));
const config = join(dir, "policy.toml");
const env = { HOME: dir, AEGIS_POLICY_CONFIG: config };

const denied = (plan: OperationPlan, toml = "") => {
  writeFileSync(config, toml);
  return denialOf(plan, canonicalHash(plan), env);
};

describe("plans that policy denies whatever a review says", () => {
  const local = install({
    targets: ["./x.deb"],
    denied_targets: [{ target: "./x.deb", signal: "local-path-denied" }],
    transaction: [],
  });
  const systemd = remove(["systemd"], [removal("systemd", { essential: true })]);
  const CASES: [what: string, plan: OperationPlan, toml: string, rule: string][] = [
    ["a local file", local, "", "target-denied"],
    ["an essential package", systemd, "[apt]\nallow_removals = true\n", "apt-essential-removal"],
    ["what the policy's own settings deny", upgrade(), '[apt]\nupgrade = "deny"\n', "apt-upgrade"],
    ["an npm package, by the policy built in", npm(), "", "npm-apply"],
  ];
  for (const [what, plan, toml, rule] of CASES)
    test(what, () => {
      const denial = denied(plan, toml);
      expect(denial?.rules).toContain(rule);
      expect(denial?.reasons.length).toBe(denial?.rules.length ?? 0);
      expect(denial?.policy).toBe(config);
    });

  test("gives only the reasons that deny", () => {
    const both = remove(["systemd"], [removal("systemd", { essential: true })]);
    expect(denied(both)?.reasons.join("\n")).not.toContain("security-sensitive");
  });

  const OPEN: [what: string, plan: OperationPlan, toml: string][] = [
    ["what needs a person", install(), ""],
    ["what needs a snapshot", upgrade(), ""],
    ["what is allowed", update(), ""],
    ["a kernel", upgrade({ transaction: [entry("linux-image-1")] }), ""],
    ["what waits for a review that is required", update(), "[review]\nrequired = true\n"],
  ];
  for (const [what, plan, toml] of OPEN) test(what, () => expect(denied(plan, toml)).toBeNull());

  test("a policy that can't be read is an error, not an answer", () =>
    refuses(() => denied(update(), "no_such = 1\n"), "invalid_config"));
});
