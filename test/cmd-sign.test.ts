import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { approve, signApprove } from "../src/cmd-approve.ts";
import { parseArgs } from "../src/cmd-args.ts";
import { signKeygen } from "../src/cmd-keygen.ts";
import { sign } from "../src/cmd-sign.ts";
import { signVerify } from "../src/cmd-verify.ts";
import type { ArgsSpec, Io, Subcommand } from "../src/command.ts";
import { parseDocument } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { documentPath, saveDocument } from "../src/doc-store.ts";
import type { ErrorCode } from "../src/errors.ts";
import { signDocument } from "../src/key-sign.ts";
import { parseTrustedKeys } from "../src/key-trusted-keys.ts";
import { evaluate } from "../src/policy.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { entry, install, review, upgrade } from "./policy-plans.ts";
import { ALICE, refuses, SIGNER, STRANGER } from "./signing-kit.ts";

const root = mkdtempSync(join(tmpdir(), "aegis-sign-"));
afterAll(() => rmSync(root, { recursive: true }));

let home = "";
let env: Record<string, string> = {};
beforeEach(() => {
  home = mkdtempSync(join(root, "home-"));
  writeFileSync(join(home, "policy.toml"), "");
  env = {
    HOME: home,
    XDG_DATA_HOME: join(home, "data"),
    NO_COLOR: "1",
    AEGIS_POLICY_CONFIG: join(home, "policy.toml"),
    AEGIS_SIGNING_SECRET_KEY_HEX: Buffer.from(SIGNER.seed).toString("hex"),
    AEGIS_APPROVAL_PUBLIC_KEY_HEX: ALICE.publicKeyHex,
  };
});

interface Ran {
  status: number;
  json: Record<string, unknown>;
  text: string;
  notes: string;
}

function ioFor(stdin: string): { io: Io; ran: Ran } {
  const ran: Ran = { status: -1, json: {}, text: "", notes: "" };
  const io: Io = {
    env,
    json: false,
    terminal: { interactive: false, colour: false, width: 100 },
    readStdin: async () => stdin,
    result(json, text) {
      ran.json = JSON.parse(JSON.stringify(json));
      ran.text += text;
    },
    note(line) {
      ran.notes += `${line}\n`;
    },
  };
  return { io, ran };
}

/** Runs a subcommand on the words a user would type, through the strict parser. */
async function run<A extends ArgsSpec>(
  command: Subcommand<A>,
  words: readonly string[],
  stdin = "",
): Promise<Ran> {
  const { io, ran } = ioFor(stdin);
  ran.status = await command.run(parseArgs(command.name, command.args, words).values, io);
  return ran;
}

/** Saves a plan made just now and, unless told otherwise, its policy result. */
function planned(change: Partial<OperationPlan> = {}, decided = true): OperationPlan {
  const plan = install({ created_at: new Date().toISOString(), ...change });
  saveDocument("plan", plan, env);
  const { config, hash } = loadPolicyConfig(env);
  const result = evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
  if (decided) saveDocument("policy", result, env);
  return plan;
}

const ONE_COMMAND = ["--signer", "ops", "--approver", "alice", "--approval-reason", "needed"];
const asAlice = () => {
  env.AEGIS_APPROVAL_SECRET_KEY_HEX = Buffer.from(ALICE.seed).toString("hex");
};

const audit = () =>
  readFileSync(join(home, "data/aegis/audit/audit.ndjson"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("sign: refused", () => {
  test("no plan, two plans, a prefix, latest", async () => {
    const { plan_id } = planned();
    for (const words of [[], [plan_id, "--plan", plan_id], [plan_id.slice(0, 8)], ["latest"]]) {
      await refuses(() => run(sign, [...words, "--signer", "ops"]), "usage");
    }
  });
  test("two documents from standard input", async () => {
    await refuses(() => run(sign, ["-", "--policy", "-", "--signer", "ops"]), "usage", "standard input");
  });
  test("no policy result yet", async () => {
    const { plan_id } = planned({}, false);
    await refuses(() => run(sign, [plan_id, "--signer", "ops"]), "not_found", "no policy result");
  });
  test("hints name a plan as the user can: a file by its path, a stored one by its id", async () => {
    const plan = planned({}, false);
    const file = join(home, "hello plan");
    saveDocument("plan", plan, env, file);
    const hints = async (words: string[], code: ErrorCode) => {
      const stored = await refuses(() => run(sign, [plan.plan_id, "--signer", "ops", ...words]), code);
      const handed = await refuses(() => run(sign, ["--plan", file, "--signer", "ops", ...words]), code);
      return [stored, handed];
    };
    const [stored, handed] = await hints([], "not_found");
    expect(stored).toStartWith(`Type: aegis policy ${plan.plan_id};`);
    expect(handed).toStartWith(`Type: aegis policy '${file}';`);
    planned({ created_at: plan.created_at });
    const needed = await hints([], "approval_required");
    // The approver has an account of their own, where neither this path nor this id leads to the plan.
    for (const hint of needed) {
      expect(hint).toContain(
        "Elsewhere hand the plan over; a second person types, there: aegis sign approve --plan <plan file>",
      );
      expect(hint).not.toContain(plan.plan_id);
      expect(hint).not.toContain(home);
    }
  });
  test("no key, no signer", async () => {
    const { plan_id } = planned();
    await refuses(() => run(sign, [plan_id]), "usage", "who signs");
    delete env.AEGIS_SIGNING_SECRET_KEY_HEX;
    await refuses(() => run(sign, [plan_id, "--signer", "ops"]), "invalid_key", "no secret key");
  });
  test("a secret in a dangerous environment", async () => {
    const { plan_id } = planned();
    env.BUN_OPTIONS = "--preload=/tmp/x";
    await refuses(() => run(sign, [plan_id, "--signer", "ops"]), "refused", "BUN_OPTIONS");
  });
  test("an install without approval", async () => {
    const { plan_id } = planned();
    await refuses(() => run(sign, [plan_id, "--signer", "ops"]), "approval_required", "1 human approval");
  });
  test("an approval key without a reason", async () => {
    const { plan_id } = planned();
    const words = [plan_id, "--signer", "ops", "--approver", "alice"];
    await refuses(() => run(sign, words), "usage", "reason");
  });
  test("one key for both", async () => {
    const { plan_id } = planned();
    env.AEGIS_APPROVAL_SECRET_KEY_HEX = env.AEGIS_SIGNING_SECRET_KEY_HEX ?? "";
    await refuses(
      () => run(sign, [plan_id, ...ONE_COMMAND]),
      "approval_invalid",
      "with the key of the execution plan",
    );
  });
  test("a plan file edited by one byte after policy (PEER 9)", async () => {
    const plan = planned();
    asAlice();
    const path = documentPath("plan", plan.plan_id, env);
    writeFileSync(path, readFileSync(path, "utf8").replace("hello=1.0-2", "hello=1.0-3"));
    await refuses(() => run(sign, [plan.plan_id, ...ONE_COMMAND]), "policy_mismatch", "another plan");
  });
  test("an unknown field in the plan file", async () => {
    const plan = planned();
    const path = join(home, "edited.json");
    writeFileSync(path, JSON.stringify({ ...plan, note: "x" }));
    await refuses(() => run(sign, [path, "--signer", "ops"]), "invalid_document", "note");
  });
  test("a lifetime that is not a number", async () => {
    const { plan_id } = planned();
    for (const minutes of ["0", "1.5", "1e3", "soon"]) {
      await refuses(() => run(sign, [plan_id, "--expires-in-minutes", minutes]), "usage", "minutes");
    }
  });
  test("nothing is written or audited by a refusal", async () => {
    const { plan_id } = planned();
    await refuses(() => run(sign, [plan_id, "--signer", "ops"]), "approval_required");
    expect(readdirSync(join(home, "data/aegis")).sort()).toEqual(["plans", "policy"]);
  });
});

describe("sign", () => {
  test("in one command, found by the plan's id; written 0600, canonical, audited", async () => {
    const plan = planned();
    asAlice();
    const ran = await run(sign, [plan.plan_id, ...ONE_COMMAND]);
    const path = String(ran.json.path);
    const text = readFileSync(path, "utf8");
    const document = parseDocument("execution", JSON.parse(text));
    expect(text).toBe(canonicalJson(document));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(document).toMatchObject({
      operation_plan: plan,
      signer_identity: "ops",
      approvals: [{ signer: "alice", reason: "needed" }],
    });
    expect(ran.text).toContain(`aegis apply ${document.execution_plan_id}`);
    expect(ran.notes).toBe("");
    expect(audit().at(-1)).toMatchObject({
      kind: "plan_signed",
      actor: "ops",
      plan_id: plan.plan_id,
      execution_id: document.execution_plan_id,
      argv: document.argv,
    });
  });
  test("the seeds' spelling, with its secrets in argv, warns twice", async () => {
    const plan = planned();
    const hex = (key: typeof SIGNER) => Buffer.from(key.seed).toString("hex");
    const ran = await run(sign, [
      ...[
        "--plan",
        documentPath("plan", plan.plan_id, env),
        "--policy",
        documentPath("policy", plan.plan_id, env),
      ],
      ...["--signer", "ops", "--secret-key-hex", hex(SIGNER), "--approval-secret-key-hex", hex(ALICE)],
      ...["--approval-reason", "needed", "--expires-in-minutes", "5", "--out", join(home, "out.json")],
    ]);
    expect(ran.notes.match(/warning/g)).toHaveLength(2);
    expect(readFileSync(join(home, "out.json"), "utf8")).toMatch(/"signer":"(?:alice|key [0-9a-z]+)"/);
  });
  test("the review behind the policy result is included", async () => {
    const plan = planned({}, false);
    const aiReview = review({ plan_hash: canonicalHash(plan), red_flags: ["odd"] });
    saveDocument("review", aiReview, env);
    const { config, hash } = loadPolicyConfig(env);
    const found = { document: aiReview, hash: canonicalHash(aiReview) };
    saveDocument(
      "policy",
      evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash, review: found }),
      env,
    );
    asAlice();
    const ran = await run(sign, [plan.plan_id, ...ONE_COMMAND]);
    expect(ran.json.execution_plan).toMatchObject({ ai_review: aiReview });
  });
  test("a lifetime above the policy's limit is shortened, with a note", async () => {
    asAlice();
    const { plan_id } = planned();
    const minutes = (ran: Ran) => {
      const { execution_plan: signed } = ran.json;
      const { created_at, expires_at } = parseDocument("execution", signed);
      return (Date.parse(expires_at) - Date.parse(created_at)) / 60_000;
    };
    const asked = (n: string) => run(sign, [plan_id, ...ONE_COMMAND, "--expires-in-minutes", n]);
    const long = await asked("99999");
    expect(minutes(long)).toBe(30);
    expect(long.notes).toBe("note: signed for 30 minutes, the maximum, instead of 99999\n");
    for (const n of ["30", "29"]) {
      const ran = await asked(n);
      expect([minutes(ran), ran.notes]).toEqual([Number(n), ""]);
    }
  });
  test("a declared snapshot and a custom key id", async () => {
    writeFileSync(join(home, "policy.toml"), "[snapshot]\naccept_declared = true");
    const { plan_id } = planned({ ...upgrade(), created_at: new Date().toISOString() });
    const ran = await run(sign, [
      plan_id,
      "--signer",
      "ops",
      "--key-id",
      "ops-1",
      "--snapshot-id",
      "snap-0abc",
    ]);
    expect(ran.json.execution_plan).toMatchObject({
      control_proofs: [{ proof_type: "snapshot-id", value: "snap-0abc" }],
      signature: { key_id: "ops-1" },
    });
    expect(ran.text).toContain("snap-0abc (declared)");
  });
  test.if(process.geteuid?.() === 0)(
    "as root, refused: a snapshot that is not there, whatever policy and approvers accept (PEER 9)",
    async () => {
      writeFileSync(join(home, "policy.toml"), "[snapshot]\naccept_declared = true");
      const { plan_id } = planned({ ...upgrade(), created_at: new Date().toISOString() });
      for (const id of ["btrfs:/anything", "snapper:anything/1", "lvm:any/thing", "zfs:any@thing"]) {
        await refuses(
          () => run(sign, [plan_id, "--signer", "ops", "--snapshot-id", id]),
          "control_invalid",
          `the snapshot ${id} is refused`,
        );
      }
      for (const id of ["btrfs:anything", "snapper:anything", "lvm:anything", "zfs:anything"]) {
        await refuses(
          () => run(sign, [plan_id, "--signer", "ops", "--snapshot-id", id]),
          "control_invalid",
          "is not a valid",
        );
      }
    },
  );
});

const APPROVE = ["--reason", "read it", "--signer", "alice"];
function approveWith(
  plan: OperationPlan,
  answer: string | null,
  words: readonly string[] = APPROVE,
  reference?: string,
) {
  const { io, ran } = ioFor(canonicalJson(plan));
  const { values } = parseArgs("sign approve", signApprove.args, [
    "--plan",
    reference ?? plan.plan_id,
    ...words,
  ]);
  const asked: string[] = [];
  const shown = join(home, "screen");
  const output = openSync(shown, "w");
  const ask = (question: string) => {
    asked.push(question);
    ran.notes += readFileSync(shown, "utf8");
    return answer;
  };
  const screen = answer === null ? null : { output, columns: 100, rows: 24, ask };
  const done = approve(values, io, () => screen).finally(() => closeSync(output));
  return { done, ran, asked };
}

test.each([
  [[], "name one request by its number, or one plan"],
  [["1", "--plan", "x", "--reason", "y"], "name one request by its number, or one plan"],
  [["1", "--confirm", "0"], "--confirm is not for a request"],
  [["1", "--out", "x"], "--out is not for a request"],
  [["--plan", "x", "--reason", "y", "--via", "a@b"], "--via is not for a plan"],
  [["--plan", "x"], "--reason is missing"],
  [["-1"], "unknown flag -1"],
  [["0"], "a request has a number, which 0 is not"],
  [["1e3"], "a request has a number, which 1e3 is not"],
  [["1", "--via", "-oProxyCommand=x"], "--via needs a value"],
  [["1", "--via=-oProxyCommand=x"], "--via takes user@host"],
])("sign approve %p: %s", (words, says) => refuses(() => run(signApprove, words), "usage", says));

test("sign: a request, or a plan, and nothing beside it", async () => {
  for (const words of [["--request", "1", "x"], ["--request", "1", "--plan", "x"], []])
    await refuses(() => run(sign, words), "usage", "name one plan, or one request");
  await refuses(
    () => run(sign, ["--request", "1", "--policy", "x"]),
    "usage",
    "a request has its own policy result",
  );
  await refuses(() => run(sign, ["--request", "one"]), "usage", "a request has a number");
});

describe("sign approve", () => {
  beforeEach(asAlice);
  const beginning = (plan: OperationPlan) => canonicalHash(plan).slice(0, 8);

  test("refused: a wrong answer, no answer, no terminal, a wrong --confirm", async () => {
    const plan = planned();
    await refuses(() => approveWith(plan, "00000000").done, "refused", "not the beginning");
    await refuses(() => approveWith(plan, "").done, "refused", "not the beginning");
    await refuses(
      () => approveWith(plan, canonicalHash(plan).slice(0, 7)).done,
      "refused",
      "not the beginning",
    );
    await refuses(() => approveWith(plan, null).done, "refused", "no terminal");
    for (const given of ["00000000", beginning(plan), `${canonicalHash(plan)}0`]) {
      await refuses(
        () => approveWith(plan, null, [...APPROVE, "--confirm", given]).done,
        "refused",
        "full hash",
      );
    }
    expect(readdirSync(join(home, "data/aegis"))).not.toContain("approvals");
  });
  test("refused without asking: denied, stale, nothing to do, latest", async () => {
    const refused: [Partial<OperationPlan>, ErrorCode][] = [
      [{ transaction: [entry("hello", { sha256: null })] }, "policy_denied"],
      [{ created_at: "2026-01-01T00:00:00Z" }, "expired"],
      [{ created_at: "2026-01-01T00:00:00Z", transaction: [entry("hello", { sha256: null })] }, "expired"],
      [{ created_at: "2026-01-01T00:00:00Z", nothing_to_do: true, transaction: [] }, "expired"],
      [{ nothing_to_do: true, transaction: [] }, "nothing_to_do"],
    ];
    for (const [change, code] of refused) {
      const { done, asked } = approveWith(planned(change), "x");
      await refuses(() => done, code);
      expect(asked).toEqual([]);
    }
    await refuses(() => approveWith(planned(), "x", APPROVE, "latest").done, "usage");
  });
  test("refused without asking: a key not trusted for approvals, another person's name", async () => {
    const plan = planned();
    const { seed } = SIGNER;
    env.AEGIS_APPROVAL_SECRET_KEY_HEX = Buffer.from(seed).toString("hex");
    env.AEGIS_SIGNING_PUBLIC_KEY_HEX = SIGNER.publicKeyHex;
    const { done, asked, ran } = approveWith(plan, beginning(plan));
    await refuses(() => done, "key_untrusted", "it is an execution key");
    expect([asked, ran.notes]).toEqual([[], ""]);
  });
  test("refused without asking: to accept a snapshot that is looked up, or no snapshot's id", async () => {
    const plan = planned();
    const cases: [id: string, code: ErrorCode, says: string][] = [
      ["btrfs:/.snapshots/1", "usage", "the executor looks this snapshot up"],
      ["gcp:disk", "usage", "there is no provider"],
      ["two words", "control_invalid", "without spaces"],
    ];
    for (const [id, code, says] of cases) {
      const { done, asked } = approveWith(plan, beginning(plan), [...APPROVE, "--accept-snapshot", id]);
      await refuses(() => done, code, says);
      expect(asked).toEqual([]);
    }
  });
  test("a snapshot that nothing looks up counts once the approver has seen and accepted its id", async () => {
    const plan = planned({ ...upgrade(), created_at: new Date().toISOString() });
    const signWith = (approval: Ran, id: string) =>
      run(sign, [
        ...[plan.plan_id, "--signer", "ops", "--approval", String(approval.json.path), "--snapshot-id", id],
      ]);
    const unseen = approveWith(plan, beginning(plan));
    await unseen.done;
    expect(unseen.ran.notes).toContain(
      "Needs      system snapshot\nSnapshot   one that the executor looks up;",
    );
    await refuses(() => signWith(unseen.ran, "made-up"), "snapshot_required", "no approver accepted it");
    const seen = approveWith(plan, beginning(plan), [...APPROVE, "--accept-snapshot", "snap-0abc"]);
    await seen.done;
    expect(seen.ran.notes).toContain("Snapshot   you accept snap-0abc, which nothing looks up\n");
    expect(seen.ran.json.approval).toMatchObject({ accepted_snapshots: ["snap-0abc"] });
    expect(audit().at(-1)).toMatchObject({ details: { accepted_snapshots: ["snap-0abc"] } });
    await refuses(() => signWith(seen.ran, "snap-0abcd"), "snapshot_required", "snap-0abcd is only declared");
    const signed = await signWith(seen.ran, "snap-0abc");
    expect(signed.text).toContain("Snapshot    snap-0abc (declared, accepted by alice)\n");
  });
  test("where policy accepts declared snapshots, the approver is told", async () => {
    writeFileSync(join(home, "policy.toml"), "[snapshot]\naccept_declared = true");
    const plan = planned({ ...upgrade(), created_at: new Date().toISOString() });
    const { done, ran } = approveWith(plan, beginning(plan));
    await done;
    expect(ran.notes).toContain("Snapshot   any that the signer names: your policy accepts one");
  });
  test("who approves in the signer's command accepts the snapshot that it names", async () => {
    const { plan_id } = planned({ ...upgrade(), created_at: new Date().toISOString() });
    const { text } = await run(sign, [plan_id, ...ONE_COMMAND, "--snapshot-id", "snap-0abc"]);
    expect(text).toContain("Snapshot    snap-0abc (declared, accepted by alice)\n");
  });
  test("with an OpenSSH key, which the signer and sign verify have to trust as one", async () => {
    const file = join(home, "id_ed25519");
    spawnSync("/usr/bin/ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]);
    const line = readFileSync(`${file}.pub`, "utf8").trim();
    env.AEGIS_APPROVAL_PUBLIC_KEY_HEX = "";
    const plan = planned();
    const both = approveWith(plan, "x", [...APPROVE, "--ssh-key", file, "--key", file]);
    await refuses(() => both.done, "usage", "give one");
    const { done, ran } = approveWith(plan, beginning(plan), [...APPROVE, "--ssh-key", file]);
    await done;
    expect(ran.text).toMatch(/^Approved by alice \(key SHA256:[A-Za-z0-9+/]{43}\) until /);
    expect(ran.json.approval).toMatchObject({ signature: { algorithm: "sshsig" } });
    const words = [plan.plan_id, "--signer", "ops", "--approval", String(ran.json.path)];
    await refuses(() => run(sign, words), "approval_invalid", "is unknown here");
    const { json } = await run(sign, [...words, "--approval-public-key-hex", line]);
    const keys = ["--public-key-hex", SIGNER.publicKeyHex, "--approval-public-key-hex", line];
    const verified = await run(signVerify, [String(json.path), ...keys]);
    expect(verified.json).toMatchObject({
      approvals: [{ signer: "alice", key: expect.stringMatching(/^SHA256:/) }],
    });
  });
  test("a lifetime above a day is shortened, with a note", async () => {
    const plan = planned();
    const { done, ran } = approveWith(plan, beginning(plan), [...APPROVE, "--expires-in-minutes", "99999"]);
    await done;
    const { approved_at, expires_at } = parseDocument("approval", ran.json.approval);
    expect(Date.parse(expires_at) - Date.parse(approved_at)).toBe(24 * 60 * 60_000);
    expect(ran.notes).toContain("note: signed for 1440 minutes, the maximum, instead of 99999");
  });
  test("for a plan that came as a file, the next command names the files", async () => {
    const plan = planned();
    const file = join(home, "hello.plan");
    saveDocument("plan", plan, env, file);
    const handed = approveWith(plan, beginning(plan), APPROVE, file);
    await handed.done;
    const approval = /^Written: (.*)$/m.exec(handed.ran.text)?.[1] ?? "";
    expect(handed.ran.text).toContain(`Next, you: install -m 640 -t <directory they can read> ${approval}\n`);
    expect(handed.ran.text).toContain(
      `Then, the signer, there: aegis sign --plan hello.plan --policy ${plan.plan_id}.policy.json --approval ${basename(approval)}`,
    );
    saveDocument("plan", plan, env, join(home, "hello.policy"));
    const named = approveWith(plan, beginning(plan), APPROVE, file);
    await named.done;
    expect(named.ran.text).toContain("aegis sign --plan hello.plan --policy hello.policy --approval ");
    const stored = approveWith(plan, beginning(plan));
    await stored.done;
    expect(stored.ran.text).toContain(
      `Next, the signer, in this account: aegis sign ${plan.plan_id} --approval `,
    );
  });
  test("shows what matters before it asks; the risky package first", async () => {
    const plan = planned({
      transaction: [
        entry("aaa", { action: "install", from_version: null }),
        entry("sudo"),
        entry("linux-image-amd64"),
      ],
      warnings: ["evil\u202e\u001b[2J"],
    });
    const { done, ran } = approveWith(plan, beginning(plan));
    await done;
    const shown = ran.notes;
    expect(shown.indexOf("sudo 1.0-1 → 1.0-2  (security-sensitive)")).toBeGreaterThan(0);
    expect(shown.indexOf("(kernel)")).toBeGreaterThan(0);
    expect(shown.indexOf("sudo")).toBeLessThan(shown.indexOf("aaa"));
    for (const text of [
      "require_human",
      "apt-install",
      "apt-get install -y hello=1.0-2",
      "On         host",
      "Changes 3 packages: 1 to install, 2 to upgrade",
      "↑ 2 to upgrade: sudo linux-image-amd64",
      canonicalHash(plan),
    ]) {
      expect(shown).toContain(text);
    }
    expect(shown).not.toMatch(/[\u202e\u001b]/);
  });
  test("reads the plan once: from standard input", async () => {
    const plan = planned();
    const { done, ran } = approveWith(plan, beginning(plan), APPROVE, "-");
    expect(await done).toBe(0);
    expect(ran.json.approval).toMatchObject({ plan_hash: canonicalHash(plan) });
  });
  test("detached, then attached by the signer; audited; verified", async () => {
    const plan = planned();
    const { done, ran } = approveWith(plan, null, [...APPROVE, "--confirm", canonicalHash(plan)]);
    expect(await done).toBe(0);
    expect(audit().at(-1)).toMatchObject({ kind: "approval_signed", actor: "alice", plan_id: plan.plan_id });
    delete env.AEGIS_APPROVAL_SECRET_KEY_HEX;
    const signed = await run(sign, [plan.plan_id, "--signer", "ops", "--approval", String(ran.json.path)]);
    const verified = await run(signVerify, [
      String(signed.json.path),
      "--public-key-hex",
      SIGNER.publicKeyHex,
    ]);
    expect(verified.json).toMatchObject({
      verified: true,
      legacy: false,
      signer: "ops",
      key: SIGNER.keyId,
      approvals: [{ signer: "alice", key: ALICE.keyId }],
      policy_reproduced: true,
    });
  });
  test("an approval by someone this machine does not know needs their public key", async () => {
    const plan = planned();
    env.AEGIS_APPROVAL_SECRET_KEY_HEX = Buffer.from(STRANGER.seed).toString("hex");
    const { done, ran } = approveWith(plan, beginning(plan));
    await done;
    delete env.AEGIS_APPROVAL_SECRET_KEY_HEX;
    const words = [plan.plan_id, "--signer", "ops", "--approval", String(ran.json.path)];
    await refuses(() => run(sign, words), "approval_invalid", "unknown here");
    expect((await run(sign, [...words, "--approval-public-key-hex", STRANGER.publicKeyHex])).status).toBe(0);
  });
});

describe("sign verify", () => {
  async function signed(): Promise<string> {
    asAlice();
    return String((await run(sign, [planned().plan_id, ...ONE_COMMAND])).json.path);
  }
  const KEY = ["--public-key-hex", SIGNER.publicKeyHex];
  const edit = (path: string, change: (text: string) => string) =>
    writeFileSync(path, change(readFileSync(path, "utf8")));

  test("refused: no keys, another key, an edited plan, an unknown approver", async () => {
    const path = await signed();
    await refuses(() => run(signVerify, [path]), "key_untrusted", "unknown here");
    await refuses(() => run(signVerify, [path, "--public-key-hex", STRANGER.publicKeyHex]), "key_untrusted");
    env.AEGIS_APPROVAL_PUBLIC_KEY_HEX = STRANGER.publicKeyHex;
    await refuses(() => run(signVerify, [path, ...KEY]), "approval_invalid", "unknown here");
    edit(path, (text) => text.replace('"needed"', '"Needed"'));
    await refuses(() => run(signVerify, [path, ...KEY]), "signature_invalid");
    edit(path, (text) => text.replace('"argv":', '"extra":1,"argv":'));
    await refuses(() => run(signVerify, [path, ...KEY]), "invalid_document", "extra");
  });
  test("another spelling of the same plan verifies, and latest is found", async () => {
    edit(await signed(), (text) => JSON.stringify(JSON.parse(text), null, 2));
    expect((await run(signVerify, ["latest", ...KEY])).text).toContain("Signed by   ops");
  });
  test("another machine's policy is reported, not an error", async () => {
    const path = await signed();
    writeFileSync(join(home, "policy.toml"), "[npm]\nminimum_age_days = 3");
    const ran = await run(signVerify, ["--execution-plan", path, ...KEY]);
    expect(ran.json).toMatchObject({ verified: true, policy_reproduced: false });
  });

  const LEGACY = signDocument(
    {
      execution_plan_id: "old-1",
      operation_plan: { plan_id: "p" },
      expires_at: "2036-01-01T00:00:00Z",
      argv: ["x"],
    },
    SIGNER.seed,
    "any-id",
  );
  test("a 0.2.x plan verifies as legacy, under any key id", async () => {
    const ran = await run(signVerify, ["-", ...KEY], JSON.stringify(LEGACY, null, 2));
    expect(ran.json).toMatchObject({ verified: true, legacy: true, key: SIGNER.keyId });
    expect(ran.text).toContain("never executed");
  });
  test("refused: an edited 0.2.x plan, and one by another key", async () => {
    const edited = JSON.stringify({ ...LEGACY, argv: ["y"] });
    await refuses(() => run(signVerify, ["-", ...KEY], edited), "signature_invalid");
    const other = ["-", "--public-key-hex", STRANGER.publicKeyHex];
    await refuses(() => run(signVerify, other, JSON.stringify(LEGACY)), "signature_invalid");
  });
});

describe("sign keygen", () => {
  test("refused in a dangerous environment", async () => {
    env.BUN_INSPECT = "1";
    await refuses(() => run(signKeygen, []), "refused", "BUN_INSPECT");
  });
  test("prints the three fields of a key", async () => {
    const { json } = await run(signKeygen, []);
    expect(json).toMatchObject({ algorithm: "ed25519" });
    expect(String(json.secret_key_hex)).toMatch(/^[0-9a-f]{64}$/);
  });
  test("warns on a terminal that the secret is shown, not in a pipe", async () => {
    const notes: string[] = [];
    const io = (interactive: boolean): Io => {
      const { io } = ioFor("");
      return { ...io, terminal: { ...io.terminal, interactive }, note: (line) => notes.push(line) };
    };
    const nothing = parseArgs("sign keygen", signKeygen.args, []).values;
    await signKeygen.run(nothing, io(false));
    expect(notes).toEqual([]);
    await signKeygen.run(nothing, io(true));
    expect(notes).toEqual([expect.stringMatching(/secret.*--out <file>/)]);
  });
  test("with --out the secret is only in the file, and the key signs", async () => {
    const file = join(home, "ops.key");
    const ran = await run(signKeygen, ["--out", file]);
    const { secret_key_hex: secret } = JSON.parse(readFileSync(file, "utf8"));
    expect(JSON.stringify(ran)).not.toContain(secret);
    delete env.AEGIS_SIGNING_SECRET_KEY_HEX;
    asAlice();
    const signed = await run(sign, [planned().plan_id, ...ONE_COMMAND, "--key", file]);
    expect(signed.json.execution_plan).toMatchObject({ signature: { key_id: ran.json.key_id } });
    await refuses(() => run(signKeygen, ["--out", file]), "exists");
  });
  test.each([
    [["--name", "alice"], "--name is for a key in a file"],
    [["--encrypt"], "--encrypt needs a file"],
    [["--role", "execution", "--name", "a\u202eb"], "printable"],
    [["--role", "execution", "--name", "a\nb"], "printable"],
    [["--role", "execution", "--name", " a"], "not between spaces"],
    [["--role", "execution", "--name", "<owner>"], "not between spaces"],
    [["--role", "execution", "--name", "x".repeat(201)], "up to 200"],
    [["--role", "owner"], "--role must be one of execution, approval"],
    [["--break-glass", "--role", "execution", "--encrypt", "--out", "k"], "a break-glass key approves"],
    [["--break-glass", "--role", "approval", "--out", "k"], "has a passphrase"],
    [["--break-glass", "--role", "approval", "--encrypt"], "is kept elsewhere"],
  ])("refused with nothing written: %j", async (words, why) => {
    await refuses(() => run(signKeygen, words), "usage", why);
    expect(readdirSync(home)).toEqual(["policy.toml"]);
  });
  test.each(["execution", "approval"] as const)(
    "--role %s: the entry is complete and right",
    async (role) => {
      const ran = await run(signKeygen, ["--role", role, "--name", 'Alice "al" \\ <al@example> x']);
      const printed = ran.text.slice(ran.text.indexOf("[[key]]"));
      for (const text of [printed, String(ran.json.entry)]) {
        expect(parseTrustedKeys(text, "keys")).toEqual([
          expect.objectContaining({
            role,
            name: 'Alice "al" \\ <al@example> x',
            ids: [ran.json.key_id, ran.json.key_id],
          }),
        ]);
      }
    },
  );
  test("what is not known of a key is a placeholder, with which nothing is trusted", async () => {
    for (const [n, words] of [[], ["--name", "ops"], ["--role", "approval"]].entries()) {
      const ran = await run(signKeygen, [...words, "--out", join(home, `key-${n}`)]);
      expect(ran.text).toContain("root completes this");
      await refuses(() => parseTrustedKeys(String(ran.json.entry), "keys"), "invalid_config");
    }
  });
  test("with --role the key is in its place, never over another, and is used without flags", async () => {
    delete env.AEGIS_SIGNING_SECRET_KEY_HEX;
    delete env.AEGIS_APPROVAL_PUBLIC_KEY_HEX;
    const plan = planned();
    await refuses(() => run(sign, [plan.plan_id]), "invalid_key", "no execution key of your own");
    const ops = await run(signKeygen, ["--role", "execution", "--name", "ops@example"]);
    const path = join(home, ".config/aegis/execution-key");
    expect(ops.json).toMatchObject({
      path,
      public_path: `${path}.pub`,
      role: "execution",
      name: "ops@example",
    });
    expect([statSync(path).mode & 0o777, statSync(join(home, ".config/aegis")).mode & 0o777]).toEqual([
      0o600, 0o700,
    ]);
    expect(JSON.parse(readFileSync(`${path}.pub`, "utf8"))).toEqual({
      algorithm: "ed25519",
      key_id: ops.json.key_id,
      public_key_hex: ops.json.public_key_hex,
      name: "ops@example",
      role: "execution",
    });
    await refuses(() => run(signKeygen, ["--role", "execution"]), "exists");
    const alice = await run(signKeygen, ["--role", "approval", "--name", "alice@example"]);
    const approved = await run(signApprove, [
      ...["--plan", documentPath("plan", plan.plan_id, env), "--reason", "wanted"],
      ...["--confirm", canonicalHash(plan)],
    ]);
    expect(approved.json.approval).toMatchObject({ signer: "alice@example" });
    const signed = await run(sign, [
      ...[plan.plan_id, "--approval", String(approved.json.path)],
      ...["--approval-public-key-hex", String(alice.json.public_key_hex)],
    ]);
    expect(signed.json.execution_plan).toMatchObject({
      signer_identity: "ops@example",
      signature: { key_id: ops.json.key_id },
    });
  });
});
