import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalJson } from "../src/canonical.ts";
import { readElf } from "./elf.ts";
import { emulators } from "./foreign-machine.ts";
import { ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import { install } from "./policy-plans.ts";

/*
 * The executables for each kind of machine, as `scripts/build --all` makes them.
 */

const TARGETS = ["x64", "x64-baseline", "arm64"] as const;
const MACHINE = { x64: 62, "x64-baseline": 62, arm64: 183 };

/** Builds all; returns what went wrong, or null. */
function buildAll(): string | null {
  const { status, stderr } = spawnSync(join(ROOT, "scripts/build"), ["--all"], { encoding: "utf8" });
  return status === 0 ? null : stderr;
}
const sums = () => readFileSync(join(ROOT, "dist/SHA256SUMS"), "utf8");

const failure = buildAll();
const offline = failure?.includes("can't fetch") === true;
const built = needs(!offline, "the runtimes of other machines (npm registry)");

test("every kind is built", () => expect(offline ? null : failure).toBeNull());

built.describe("builds", () => {
  let dir = "";
  const at = (target: string) => join(dir, `aegis-linux-${target}`);
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "aegis-builds-"));
    for (const target of TARGETS) copyFileSync(join(ROOT, `dist/aegis-linux-${target}`), at(target));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  test("SHA256SUMS is of all of them", () => {
    expect(
      sums()
        .match(/ {2}.*/g)
        ?.map((name) => name.trim()),
    ).toEqual(TARGETS.map((target) => `aegis-linux-${target}`).toSorted());
    const { status } = spawnSync("sha256sum", ["--check", "--strict", "--status", "SHA256SUMS"], {
      cwd: join(ROOT, "dist"),
    });
    expect(status).toBe(0);
  });

  test("a second build gives the same bytes", () => {
    const before = sums();
    expect(buildAll()).toBeNull();
    expect(sums()).toBe(before);
  });

  describe("ask of the system no more than the README says", () => {
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    const stated = /glibc (\d+\.\d+) or newer/.exec(readme)?.[1] ?? "none";
    for (const target of TARGETS)
      test(target, () => {
        const { machine, needed, versions } = readElf(at(target));
        expect(machine).toBe(MACHINE[target]);
        expect(
          needed.filter((name) => !/^(?:lib(?:c|m|dl|pthread)|ld-linux-[a-z0-9-]+)\.so\.\d$/.test(name)),
        ).toEqual([]);
        const glibc = versions.filter((name) => name.startsWith("GLIBC_")).map((name) => name.slice(6));
        expect(glibc.length).toBe(versions.length);
        expect(glibc.toSorted(new Intl.Collator("en", { numeric: true }).compare).at(-1)).toBe(stated);
      });
  });

  const found = emulators();
  if (typeof found === "string") process.stderr.write(`\nno emulators: ${found}\n`);
  const emulated = needs(typeof found !== "string", "qemu from Debian's packages");

  emulated.describe("run on other machines", () => {
    const { arm64, x64 } = typeof found === "string" ? { arm64: [], x64: () => [] } : found;
    let env: Record<string, string> = {};
    beforeAll(() => {
      env = { HOME: dir, PATH: "/usr/bin:/bin", AEGIS_POLICY_CONFIG: join(dir, "policy.toml") };
      writeFileSync(join(dir, "policy.toml"), "");
    });
    const run = (words: readonly string[], input = "") => {
      const [program = "", ...args] = words;
      const { status, stdout, stderr } = spawnSync(program, args, { env, input, encoding: "utf8", cwd: dir });
      return { status, stdout, stderr };
    };
    const here = (...words: string[]) => run([at("x64"), ...words]);
    const there = (...words: string[]) => run([...arm64, at("arm64"), ...words]);

    // Without AVX: Nehalem, of 2008, has SSE 4.2 only.
    for (const target of ["x64", "x64-baseline"] as const)
      test(`${target} on a processor without AVX`, () => {
        const { stdout, stderr } = run([...x64("Nehalem"), at(target), "--version"]);
        expect({ stdout: stdout.trim(), stderr }).toEqual({
          stdout: here("--version").stdout.trim(),
          stderr: "",
        });
      });

    test("arm64: --version, plan --help", () => {
      expect(there("--version")).toEqual(here("--version"));
      expect(there("plan", "--help")).toEqual(here("plan", "--help"));
      expect(there("--version").status).toBe(0);
    });

    test("arm64: what is decided, signed and verified there holds here, and the other way round", () => {
      const plan = join(dir, "plan.json");
      writeFileSync(plan, canonicalJson(install({ created_at: new Date().toISOString() })));
      const decided = [here, there].map((machine) => JSON.parse(machine("policy", plan, "--json").stdout));
      expect(decided[0].policy_result.plan_hash).toMatch(/^[0-9a-f]{64}$/);
      expect(decided[1].policy_result).toEqual(decided[0].policy_result);
      const policy = join(dir, "policy.json");
      writeFileSync(policy, canonicalJson(decided[0].policy_result));
      for (const [name, maker, checker] of [
        ["there", there, here],
        ["here", here, there],
      ] as const) {
        const [key, approver, approval, out] = ["key", "approver", "approval", "out"].map((file) =>
          join(dir, `${name}-${file}`),
        ) as [string, string, string, string];
        for (const file of [key, approver])
          expect(maker("sign", "keygen", "--out", file)).toMatchObject({ status: 0 });
        const hex = (file: string): string => JSON.parse(readFileSync(`${file}.pub`, "utf8")).public_key_hex;
        env = { ...env, AEGIS_APPROVAL_PUBLIC_KEY_HEX: hex(approver) };
        const hash = decided[0].policy_result.plan_hash;
        const approve = [
          "--plan",
          plan,
          "--reason",
          "r",
          "--key",
          approver,
          "--signer",
          "alice",
          "--confirm",
          hash,
        ];
        expect(maker("sign", "approve", ...approve, "--out", approval)).toMatchObject({ status: 0 });
        const sign = [
          "--plan",
          plan,
          "--policy",
          policy,
          "--key",
          key,
          "--signer",
          "ops",
          "--approval",
          approval,
        ];
        expect(maker("sign", ...sign, "--out", out)).toMatchObject({ status: 0 });
        const keys = ["--public-key-hex", hex(key), "--approval-public-key-hex", hex(approver)];
        expect(checker("sign", "verify", out, ...keys)).toMatchObject({ status: 0 });
        writeFileSync(out, readFileSync(out, "utf8").replace('"ops"', '"oops"'));
        expect(checker("sign", "verify", out, ...keys)).toMatchObject({ status: 6 });
      }
    }, 240_000);
  });
});
