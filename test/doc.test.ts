import { describe, expect, test } from "bun:test";
import { canonicalHash, canonicalJson, type Json, parseJson } from "../src/canonical.ts";
import { type DocumentKind, parseDocument, readDocument, unsigned } from "../src/doc.ts";
import { DEBIAN, entry, install, npm, removal, review, upgrade, vulnerability } from "./policy-plans.ts";
import { approvalOf, execution, ingredients, refuses, snapshot } from "./signing-kit.ts";

const PLAN = upgrade({
  transaction: [entry("hello"), removal("old")],
  denied_targets: [{ target: "x", signal: "url-denied" }],
  scripts: [{ package: "hello", name: "postinst", body: "true" }],
  vulnerability_evidence: [vulnerability()],
  provenance_evidence: npm().provenance_evidence,
  sbom_evidence: [{ purl: "pkg:deb/hello", sha256: null }],
  risk_contributions: [{ name: "deprecated", points: -1 }],
  repository_evidence: [DEBIAN],
});
const tree = (value: unknown): Json => parseJson(canonicalJson(value));
const SAMPLES: Record<DocumentKind, Json> = {
  plan: tree(PLAN),
  review: tree(review()),
  policy: tree(ingredients().policy.document),
  approval: tree(approvalOf(install())),
  execution: tree(await execution(install(), { proofs: [snapshot()] })),
};
const KINDS = Object.keys(SAMPLES) as DocumentKind[];

/** Plans of older versions lack it but can be read; exec-preflight.test.ts shows that they never run. */
const MAY_BE_MISSING: readonly string[] = ["boot_id"];

type Path = (string | number)[];
/** Every object in a tree, by path. */
function objects(value: Json, path: Path = []): { path: Path; keys: string[] }[] {
  if (value === null || typeof value !== "object") return [];
  if (Array.isArray(value)) return value.flatMap((item, i) => objects(item, [...path, i]));
  const below = Object.entries(value).flatMap(([key, item]) => objects(item, [...path, key]));
  return [{ path, keys: Object.keys(value) }, ...below];
}
/** A copy of a tree with one key of one object changed, or removed if no value is given. */
function changed(value: Json, path: Path, key: string, instead?: Json): Json {
  const copy = structuredClone(value);
  let node: Json | undefined = copy;
  for (const step of path) {
    if (node === null || typeof node !== "object") throw new Error("no such path");
    node = Array.isArray(node) ? node[Number(step)] : node[step];
  }
  if (node === null || typeof node !== "object" || Array.isArray(node)) throw new Error("no object there");
  if (instead === undefined) delete node[key];
  else node[key] = instead;
  return copy;
}

for (const kind of KINDS) {
  describe(kind, () => {
    const sample = SAMPLES[kind];
    const all = objects(sample);

    test("the sample is valid, and the hash covers the tree as read", () => {
      const text = JSON.stringify(sample, null, 2);
      expect(readDocument(kind, text).hash).toBe(canonicalHash(sample));
      expect(canonicalJson(readDocument(kind, text).document)).toBe(canonicalJson(sample));
    });
    test("an unknown field anywhere is refused, with its path", async () => {
      for (const { path } of all) {
        const bad = changed(sample, path, "extra_field", 1);
        await refuses(() => parseDocument(kind, bad), "invalid_document", [...path, "extra_field"].join("."));
      }
    });
    test("a missing field anywhere is refused, with its path", async () => {
      for (const { path, keys } of all) {
        for (const key of keys.filter((name) => !MAY_BE_MISSING.includes(name))) {
          const bad = changed(sample, path, key);
          await refuses(() => parseDocument(kind, bad), "invalid_document", [...path, key].join("."));
        }
      }
    });
    test("a value of another type anywhere is refused, with its path", async () => {
      for (const { path, keys } of all) {
        for (const key of keys) {
          const bad = changed(sample, path, key, { not: "this" });
          await refuses(() => parseDocument(kind, bad), "invalid_document", [...path, key].join("."));
        }
      }
    });
    test("another major version is refused, another minor version is read", async () => {
      for (const version of ["2.0", "0.9", "1", "1.", "1.0.0", "01.0", " 1.0", 1]) {
        const bad = changed(sample, [], "schema_version", version);
        await refuses(() => parseDocument(kind, bad), "invalid_document", "schema_version");
      }
      parseDocument(kind, changed(sample, [], "schema_version", "1.7"));
    });
    test("other JSON values are refused", async () => {
      for (const other of [null, 1, "x", [], {}])
        await refuses(() => parseDocument(kind, other), "invalid_document");
      for (const [name, value] of Object.entries(SAMPLES))
        if (name !== kind) await refuses(() => parseDocument(kind, value), "invalid_document");
    });
  });
}

describe("values that are refused", () => {
  const CASES: [field: string, values: Json[]][] = [
    [
      "plan_id",
      [
        "",
        "latest",
        "11111111-2222-4333-8444-55555555555",
        "11111111-2222-4333-8444-55555555555G",
        "../../../x",
      ],
    ],
    [
      "created_at",
      [
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05+01:00",
        "2026-13-02T03:04:05Z",
        "2026-01-02t03:04:05z",
        "2026-01-02T03:04:05Z\n",
        0,
      ],
    ],
    ["tool", ["APT", "dpkg", "constructor", ""]],
    ["command_preview", [[], [1], "apt-get upgrade"]],
    ["risk_score", [-1, 101, 0.5, "10"]],
    ["risk_signals", [["no-such-signal"], ["toString"]]],
    ["targets", [[""], ["x".repeat(513)]]],
    ["transitive_dependency_count", [-1, 1.5]],
    ["packages_upgraded", [Array.from({ length: 20_001 }, () => "x")]],
  ];
  for (const [field, values] of CASES) {
    for (const [i, value] of values.entries()) {
      test(`${field}: ${JSON.stringify(value).slice(0, 60)} (${i})`, () =>
        refuses(
          () => parseDocument("plan", changed(SAMPLES.plan, [], field, value)),
          "invalid_document",
          `not a valid operation plan: ${field}`,
        ));
    }
  }
});

test("names of Object.prototype are unknown fields", async () => {
  const text = canonicalJson(SAMPLES.plan);
  for (const name of ["__proto__", "constructor", "toString"])
    await refuses(() => readDocument("plan", `{"${name}":{},${text.slice(1)}`), "invalid_document", name);
});

test("unsigned removes only the signature", () => {
  const approval = approvalOf(install());
  const { signature: _, ...rest } = approval;
  expect(unsigned(approval)).toEqual(rest);
  expect("signature" in approval).toBe(true);
});
