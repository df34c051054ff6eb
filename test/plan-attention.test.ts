import { expect, test } from "bun:test";
import { canonicalHash } from "../src/canonical.ts";
import { renderApproval } from "../src/cmd-approve-view.ts";
import type { OperationPlan, TransactionEntry } from "../src/doc-plan.ts";
import { byAttention } from "../src/plan-attention.ts";
import { evaluate } from "../src/policy.ts";
import { DEBIAN, entry, removal, restart, upgrade, vulnerability, WEAK } from "./policy-plans.ts";
import { configOf } from "./signing-kit.ts";

/** The notable packages of a plan, as `name: why, why`, most serious first. */
function notable(change: Partial<OperationPlan>, sensitive?: string[]): string[] {
  return byAttention(upgrade(change), sensitive).notable.map(
    ({ entry: { name }, marks }) => `${name}: ${marks.map(({ what }) => what).join(", ")}`,
  );
}

const from = (source: OperationPlan["repository_evidence"][number]): Partial<OperationPlan> => ({
  transaction: [entry("x1", { sources: [source.id] })],
  repository_evidence: [DEBIAN, source],
});
const of = (...transaction: TransactionEntry[]): Partial<OperationPlan> => ({ transaction });

test.each<[string, Partial<OperationPlan>, string[]]>([
  ["a removal", of(removal("x1")), ["x1: removed"]],
  ["an essential one", of(removal("x1", { essential: true })), ["x1: essential package removed, removed"]],
  ["a key that is not pinned", from(WEAK), ["x1: from a source without trust"]],
  ["no source", of(entry("x1", { sources: [] })), ["x1: from a source without trust"]],
  ["no signature", from({ ...DEBIAN, signature_verified: false }), ["x1: from a source without trust"]],
  ["trusted=yes", from({ ...DEBIAN, trusted_option: true }), ["x1: from a source without trust"]],
  ["allow-insecure", from({ ...DEBIAN, allow_insecure: true }), ["x1: from a source without trust"]],
  ["a pinned key", from({ ...WEAK, trust: "pinned" }), ["x1: from a third party"]],
  ["no digest", of(entry("x1", { sha256: null })), ["x1: no SHA-256 known"]],
  ["files of others", of(entry("x1", { takes_over: ["a1"] })), ["x1: takes over files of another package"]],
  ["a downgrade", of(entry("x1", { action: "downgrade" })), ["x1: downgraded"]],
  ["a kernel", of(entry("linux-image-amd64")), ["linux-image-amd64: kernel"]],
  ["a boot loader", of(entry("grub-pc")), ["grub-pc: needed to boot"]],
  ["sudo", of(entry("sudo")), ["sudo: security-sensitive"]],
  ["a hold", { ...of(entry("x1")), packages_held_back: ["x1:amd64"] }, ["x1: on hold"]],
  ["an essential upgrade", of(entry("x1", { essential: true })), ["x1: essential package"]],
  ["a target", { ...of(entry("x1")), targets: ["x1:amd64=1.0-2"] }, ["x1: asked for by name"]],
  ["nothing", of(entry("x1")), []],
  [
    "the gravest first",
    of(entry("sudo"), entry("x1"), removal("x2")),
    ["x2: removed", "sudo: security-sensitive"],
  ],
])("%s", (_what, change, expected) => {
  expect(notable(change)).toEqual(expected);
});

test("the policy's own sensitive packages", () => {
  expect(notable(of(entry("x1")), ["x*"])).toEqual(["x1: security-sensitive"]);
});

/** The names that an approver is told to look at first. */
function lookedAtFirst(plan: OperationPlan): string[] {
  return lookFirst(plan).flatMap((line) => line.split(" ")[0] || []);
}

function lookFirst(plan: OperationPlan): string[] {
  const { config, hash } = configOf();
  const planHash = canonicalHash(plan);
  const result = evaluate({ plan, planHash, config, configHash: hash });
  const shown = renderApproval(plan, result, config, { interactive: false, colour: false, width: 200 });
  const [, block = ""] = /^Look at these first:\n((?: {2}.*\n)*)/m.exec(shown) ?? [];
  return block
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

const OLD = { vulnerability_evidence: [vulnerability({ applies_to: "old" })] };
const QUIET = { outlook: { reboot: { reasons: [] } } };
const OFFERS = { outlook: { repository: [] } };
test.each<[what: string, change: Partial<OperationPlan>, isOfAnother: boolean, says: string | null]>([
  ["fixes that nobody compares", OLD, true, "which vulnerabilities it fixes: that is the word"],
  ["an outlook that nobody compares", QUIET, true, "what it says of services, reboot, configuration files"],
  ["both", { ...OLD, ...QUIET }, true, "it fixes, and what it says of services"],
  ["the approver's own plan", { ...OLD, ...QUIET }, false, null],
  ["what a repository offers, which is compared", OFFERS, true, null],
  ["neither", {}, true, null],
])("an approver's screen of %s", (_what, change, isOfAnother, says) => {
  const plan = upgrade(change);
  const { config, hash } = configOf();
  const result = evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
  const terminal = { interactive: false, colour: false, width: 200 };
  const shown = renderApproval(plan, result, config, terminal, { isOfAnother }).replaceAll(/[│\s]+/g, " ");
  if (says === null) expect(shown).not.toContain("Nobody compares");
  else expect(shown).toContain(says);
});

test("what an approver must look at is not pushed out by what is less grave", () => {
  const many = Array.from({ length: 30 }, (_, i) => entry(`openssh-${i}`));
  const names = lookedAtFirst(upgrade(of(...many, removal("libc6", { essential: true }))));
  expect(names[0]).toBe("libc6");
  expect(names).toHaveLength(21);
});

test("nor by many packages of a graver reason, which a repository can make up", () => {
  const many = Array.from({ length: 60 }, (_, i) => entry(`dep-${i}`, { takes_over: ["a1"] }));
  const grave = ["linux-image-amd64", "grub-pc", "sudo"].map((name) => entry(name));
  const names = lookedAtFirst(upgrade(of(...many, ...grave)));
  expect(names).toHaveLength(21);
  expect(names.slice(-4)).toEqual(["linux-image-amd64", "grub-pc", "sudo", "and"]);
});

test("of restarts, what may cut off others and what goes along", () => {
  expect(lookFirst(restart(["nginx.service", "ssh.service"], ["part.service"]))).toEqual([
    "ssh.service  (its restart may cut off others)",
    "part.service  (restarted with another)",
  ]);
});

test("an approver is told of packages whose source nothing vouches for", () => {
  expect(lookedAtFirst(upgrade({ ...from(WEAK), targets: ["x1"] }))).toEqual(["x1"]);
  expect(lookedAtFirst(upgrade({ ...from({ ...WEAK, trust: "pinned" }), targets: ["x1"] }))).toEqual([]);
});
