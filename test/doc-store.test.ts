import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { documentPath, MAX_DOCUMENT_BYTES, resolveDocument, saveDocument } from "../src/doc-store.ts";
import { install, review, upgrade } from "./policy-plans.ts";
import { approvalOf, execution, ingredients, refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const ID = upgrade().plan_id;
const OTHER = "11111111-9999-4333-8444-555555555555";
const signed = await execution();
let dir: string;
let remove: () => void;
beforeEach(() => {
  ({ path: dir, remove } = temporaryDirectory());
});
afterEach(() => remove());

const env = () => ({ HOME: "/nonexistent", XDG_DATA_HOME: dir });
const io = (stdin = "") => ({ env: env(), readStdin: async () => stdin });
const find = (reference: string, exact = false, stdin = "") =>
  resolveDocument("plan", reference, io(stdin), { exact });
const save = (plan = upgrade()) => saveDocument("plan", plan, env());

describe("errors", () => {
  const CASES: [
    reference: string,
    exact: boolean,
    code: "usage" | "not_found" | "invalid_document",
    says: string,
  ][] = [
    ["latest", false, "not_found", "there is no operation plan yet"],
    ["99999999", false, "not_found", "there is no operation plan with an id starting with 99999999"],
    [OTHER, false, "not_found", OTHER],
    ["/nonexistent/plan.json", false, "not_found", "/nonexistent/plan.json"],
    // Shorter than 8: a file name, not an id prefix.
    ["1111111", false, "not_found", "/1111111"],
    ["latest", true, "usage", "path or full id"],
    [ID.slice(0, 8), true, "usage", "path or full id"],
    [ID.slice(0, 35), true, "usage", "path or full id"],
    ["-", false, "invalid_document", "standard input: not valid JSON"],
    ["/dev/null/x", false, "usage", "a part of that path is a file"],
    ["/dev/zero", false, "invalid_document", "not a regular file"],
    ["/", false, "invalid_document", "not a regular file"],
  ];
  for (const [reference, exact, code, says] of CASES)
    test(`${reference}${exact ? ", exact" : ""}`, () => refuses(() => find(reference, exact), code, says));

  test("a prefix of two ids", async () => {
    save();
    save(upgrade({ plan_id: OTHER }));
    await refuses(() => find("11111111"), "usage", "is a prefix of 2 ids");
    expect((await find("11111111-9")).document.plan_id).toBe(OTHER);
  });
  test("a document of another kind, an edited one, one that is too large", async () => {
    const path = saveDocument("review", review(), env());
    await refuses(
      () => find(path),
      "invalid_document",
      `${path} is a review, but an operation plan is needed here`,
    );
    const { policy } = ingredients();
    const others = {
      "a policy result": canonicalJson(policy.document),
      "an execution plan": canonicalJson(signed),
      "an approval": canonicalJson(approvalOf(install())),
    };
    for (const [what, text] of Object.entries(others))
      await refuses(() => find("-", false, text), "invalid_document", `standard input is ${what}, but`);
    const reading = resolveDocument("execution", "-", io(canonicalJson(upgrade())));
    const hint = await refuses(
      () => reading,
      "invalid_document",
      "is an operation plan, but an execution plan",
    );
    expect(hint).toContain("`aegis sign`");
    writeFileSync(path, "{");
    await refuses(() => find(path), "invalid_document", `${path}: not valid JSON`);
    writeFileSync(path, "{}");
    await refuses(() => find(path), "invalid_document", `${path} is not a valid operation plan`);
    writeFileSync(save(), canonicalJson(upgrade()).replace('"apt"', '"apt","x":1'));
    await refuses(() => find(ID), "invalid_document");
    writeFileSync(documentPath("plan", ID, env()), Buffer.alloc(MAX_DOCUMENT_BYTES + 1, " "));
    await refuses(() => find(ID), "invalid_document", "larger than");
  });
});

test("found by path, relative path, id, id prefix, latest, standard input", async () => {
  const path = save();
  const expected = { document: upgrade(), hash: canonicalHash(upgrade()), text: canonicalJson(upgrade()) };
  for (const reference of [
    path,
    relative(process.cwd(), path),
    ID,
    ID.slice(0, 8),
    ID.slice(0, 20),
    "latest",
  ])
    expect(await find(reference)).toEqual({ ...expected, path });
  for (const reference of [path, ID]) expect(await find(reference, true)).toEqual({ ...expected, path });
  expect(await find("-", true, expected.text)).toEqual({ ...expected, path: null });
});

test("latest is the one written last; other files are ignored", async () => {
  utimesSync(save(), 1000, 1000);
  const path = save(upgrade({ plan_id: OTHER }));
  utimesSync(path, 2000, 2000);
  for (const name of ["README", `.${ID}.json.tmp`, "latest.json", `${ID}.json.bak`])
    writeFileSync(join(dirname(path), name), "x");
  expect((await find("latest")).document.plan_id).toBe(OTHER);
  utimesSync(documentPath("plan", ID, env()), 3000, 3000);
  expect((await find("latest")).document.plan_id).toBe(ID);
});

describe("saving", () => {
  const { plan, policy } = ingredients();
  const approval = approvalOf(install());
  const CASES: [save: () => string, name: string, document: unknown][] = [
    [() => saveDocument("plan", plan.document, env()), `plans/${ID}.json`, plan.document],
    [() => saveDocument("review", review(), env()), `reviews/${ID}.review.json`, review()],
    [() => saveDocument("policy", policy.document, env()), `policy/${ID}.policy.json`, policy.document],
    [() => saveDocument("approval", approval, env()), `approvals/${approval.approval_id}.json`, approval],
    [() => saveDocument("execution", signed, env()), `executions/${signed.execution_plan_id}.json`, signed],
  ];
  for (const [write, name, document] of CASES) {
    test(name, () => {
      const path = write();
      expect(path).toBe(join(dir, "aegis", name));
      expect(readFileSync(path, "utf8")).toBe(canonicalJson(document));
      expect([statSync(path).mode & 0o777, statSync(dirname(path)).mode & 0o777]).toEqual([0o600, 0o700]);
    });
  }
  test("to another path on request, without creating its directory", async () => {
    const out = join(dir, "elsewhere.json");
    expect(saveDocument("plan", upgrade(), env(), out)).toBe(out);
    expect(statSync(out).mode & 0o777).toBe(0o600);
    await refuses(() => saveDocument("plan", upgrade(), env(), join(dir, "no/x.json")), "usage", "no such");
    mkdirSync(join(dir, "taken"));
    const taken = join(dir, "taken");
    await refuses(
      () => saveDocument("plan", upgrade(), env(), taken),
      "usage",
      `${taken}: it is a directory`,
    );
    // The directory is reported even if its parent isn't writable.
    await refuses(() => saveDocument("plan", upgrade(), env(), "/proc"), "usage", "/proc: it is a directory");
    await refuses(() => saveDocument("plan", upgrade(), { ...env(), XDG_DATA_HOME: "/dev/null" }), "io");
  });
});
