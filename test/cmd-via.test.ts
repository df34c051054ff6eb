import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { requestsOf, requestsVia } from "../src/cmd-via.ts";
import type { Io } from "../src/command.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { requestHash } from "../src/doc-request.ts";
import { decideOwn } from "../src/exec-replan.ts";
import { install, upgrade } from "./policy-plans.ts";
import { aSummary } from "./request-kit.ts";
import { approvalOf, configOf, refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/* The near end of --via, with a program in the place of ssh that says what a compromised far end may say. */

const { path: dir, remove } = temporaryDirectory();
afterAll(remove);
const SSH = join(dir, "ssh");
writeFileSync(
  SSH,
  `#!/bin/sh\nprintf '%s\\n' "$@" > ${dir}/argv; env > ${dir}/env; cat > ${dir}/input; . ${dir}/does\n`,
);
chmodSync(SSH, 0o755);
writeFileSync(join(dir, "policy.toml"), "");

let notes: string[] = [];
beforeEach(() => {
  notes = [];
});
const io: Io = {
  env: { HOME: dir, AEGIS_POLICY_CONFIG: join(dir, "policy.toml"), SSH_AUTH_SOCK: "/agent", SECRET: "s" },
  json: false,
  terminal: { interactive: false, colour: false, width: 80 },
  readStdin: async () => "",
  result: () => {},
  note: (line) => notes.push(line),
};
/** The far end prints this, whatever it is asked. */
function says(answer: unknown, status = 0, more = ""): ReturnType<typeof requestsVia> {
  writeFileSync(join(dir, "answer"), typeof answer === "string" ? answer : JSON.stringify(answer));
  writeFileSync(join(dir, "does"), `${more}\ncat ${dir}/answer; exit ${status}\n`);
  return requestsVia("alice@web1", io, SSH);
}
const argv = () => readFileSync(join(dir, "argv"), "utf8").trimEnd().split("\n");

const PLAN = install();
const LATER = {
  ...PLAN,
  plan_id: "99999999-2222-4333-8444-555555555555",
  created_at: "2026-01-02T09:00:00.000Z",
};
const POLICY = { ...configOf(), source: "test" };
const decided = (plan: OperationPlan) => decideOwn(plan, POLICY);
const REQUEST = aSummary({ plan_hash: canonicalHash(PLAN), targets: ["hello"] });
const shown = (again: OperationPlan, change: object = {}, decision: object = {}) => ({
  ...{ request: REQUEST, request_hash: requestHash(REQUEST), plan: PLAN, policy_result: decided(PLAN) },
  ...{ review: null, approvals: [approvalOf(PLAN)] },
  again: { plan: again, policy_result: { ...decided(again), ...decision } },
  ...change,
});

describe("destinations that are none", () => {
  for (const destination of [
    "-oProxyCommand=x",
    "alice@-oProxyCommand=x",
    "alice@web1 -A",
    "alice@web1;reboot",
    "alice@web1\n",
    "$(id)@web1",
    "alice@",
    "@web1",
    "",
    "ssh://web1/",
    "a".repeat(300),
  ])
    test(JSON.stringify(destination.slice(0, 30)), () =>
      refuses(() => requestsOf({ via: destination, socket: "/none" }, io), "usage", "--via takes user@host"),
    );
});

describe("a far end that lies", () => {
  const other = { ...LATER, targets: ["nginx"] };
  const CASES: [what: string, answer: object, code: Parameters<typeof refuses>[1], says: string][] = [
    [
      "another request",
      shown(LATER, { request: { ...REQUEST, number: 8 } }),
      "hash_mismatch",
      "another request",
    ],
    [
      "a plan that is not the request's",
      shown(LATER, { plan: upgrade() }),
      "hash_mismatch",
      "not the request's",
    ],
    ["other targets", shown(other), "hash_mismatch", "another targets than"],
    [
      "another operation",
      shown({ ...LATER, operation: "upgrade" }),
      "hash_mismatch",
      "another operation than",
    ],
    [
      "another host",
      shown({ ...LATER, host: { ...LATER.host, hostname: "mine" } }),
      "hash_mismatch",
      "is of another host",
    ],
    [
      "a decision about another plan",
      shown(LATER, {}, { plan_hash: "0".repeat(64) }),
      "hash_mismatch",
      "another plan",
    ],
    [
      "a milder decision",
      shown(LATER, {}, { decision: "allow" }),
      "hash_mismatch",
      "policy decides require_human",
    ],
    ["other rules", shown(LATER, {}, { evaluator_hash: "0".repeat(64) }), "evaluator_mismatch", ""],
    [
      "a plan with an unknown field",
      shown({ ...LATER, note: "x" } as OperationPlan),
      "invalid_document",
      "note",
    ],
    ["no plan made again", shown(LATER, { again: null }), "protocol", "again"],
    ["no request", { plan: PLAN }, "protocol", "request"],
  ];
  for (const [what, answer, code, words] of CASES)
    test(what, () => refuses(() => says(answer).readAgain(7), code, words));

  test("one that has ended", () =>
    refuses(
      () => says(shown(LATER, { request: { ...REQUEST, state: "withdrawn" } })).readAgain(7),
      "refused",
      "ended",
    ));
  test("an error in its own words", async () => {
    const error = { code: "not_found", message: "there is no request 7 here", hint: "See: x" };
    const thrown = await says({ error }, 2)
      .read(7)
      .catch((e: unknown) => e);
    expect(thrown).toMatchObject({ code: "not_found", origin: "alice@web1" });
  });
  test("no answer at all", () =>
    refuses(() => says("bash: aegis: not found\n", 127).read(7), "unavailable", "status 127"));
  test("an answer without end", () =>
    refuses(() => says({}, 0, "yes").read(7), "timeout", "answered too much"));
  test("what it says on standard error is escaped", async () => {
    await says({ requests: [], left_out: 0 }, 0, "printf 'a\\033]52;c;eA==\\007b\\n' >&2").list(true);
    expect(notes).toEqual(["alice@web1: a\\x1b]52;c;eA==\\x07b"]);
  });
});

describe("an honest far end", () => {
  test("is asked in fixed words and a number, without a way back to this machine", async () => {
    const { again, documents } = await says(shown(LATER)).readAgain(7);
    expect(again.plan.hash).toBe(canonicalHash(LATER));
    expect(documents.approvals).toHaveLength(1);
    expect(argv()).toEqual([
      ...["-T", "-a", "-x", "-o", "ClearAllForwardings=yes", "--", "alice@web1"],
      "/usr/local/bin/aegis sign show 7 --again --json",
    ]);
    const env = readFileSync(join(dir, "env"), "utf8");
    expect(env).toContain("SSH_AUTH_SOCK=/agent");
    expect(env).not.toContain("SECRET");
  });
  test("gets the decision on standard input", async () => {
    const newer = {
      operation_plan: canonicalJson(LATER),
      policy_result: canonicalJson(decided(LATER)),
      review: null,
    };
    const approval = canonicalJson(approvalOf(LATER));
    const hash = requestHash(REQUEST);
    const done = await says({ request: REQUEST }).decide({ number: 7, request_hash: hash, approval, newer });
    expect(done.number).toBe(7);
    expect(argv().at(-1)).toBe("/usr/local/bin/aegis sign approve 7 --approval - --json");
    expect(JSON.parse(readFileSync(join(dir, "input"), "utf8"))).toEqual({
      ...{ request_hash: hash, approval: JSON.parse(approval) },
      ...{ operation_plan: LATER, policy_result: decided(LATER) },
    });
  });
  test("under another policy its decision is told as its word", async () => {
    const elsewhere = { ...decided(LATER), policy_config_hash: "0".repeat(64) };
    await says(shown(LATER, {}, elsewhere)).readAgain(7);
    expect(notes.join("\n")).toContain("its decision can't be reproduced here");
  });
});
