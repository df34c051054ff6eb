import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repositoryArgv } from "../src/apt-repository-argv.ts";
import { repositoryDriver } from "../src/apt-repository-driver.ts";
import { REPOSITORY_FILES, writeRepository } from "../src/apt-repository-write.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { ConfiguredRepository } from "../src/doc-repository.ts";
import { adding, configured, vendorFile } from "./policy-repository-cases.ts";

const ROOT = mkdtempSync(join(tmpdir(), "aegis-repository-driver-"));
afterAll(() => rmSync(ROOT, { recursive: true, force: true }));
const PARTS = join(ROOT, "sources.list.d");
const FILE = join(PARTS, "vendor.sources");
const [OLD, NEW] = [vendorFile("rsa2048"), vendorFile()];
const driver = repositoryDriver(PARTS);
let runs = 0;
const waiting = { stop: () => {}, alive: () => {} };
const preparing = { ...waiting, stop: new AbortController().signal, progress: () => {} };

beforeEach(() => {
  rmSync(PARTS, { recursive: true, force: true });
  mkdirSync(PARTS);
});

const planOf = (repository: ConfiguredRepository): OperationPlan => adding({ repository });
/** A run's directory, laid out, and what it is compared with. */
async function prepared(repository: ConfiguredRepository, argv = repositoryArgv(repository)) {
  const [directory, archives] = [join(ROOT, `run-${++runs}`), join(ROOT, `archives-${runs}`)];
  const place = { directory, archives, aegis: "/usr/local/bin/aegis", account: null };
  const run = await driver.prepare(planOf(repository), argv, place, preparing);
  return { directory, run, subject: { argv, transaction: [] }, before: driver.observe() };
}
const write = (directory: string) => writeRepository(directory, () => {});
const file = () => (existsSync(FILE) ? readFileSync(FILE, "utf8") : null);

describe("what is written", () => {
  test.each<[what: string, before: string | null, after: string | null]>([
    ["a new file", null, NEW],
    ["in place of another", OLD, NEW],
    ["none any more", OLD, null],
    ["bytes of another hand, brought back", NEW, "deb https://x.example/ ./\n"],
  ])("%s", async (_, before, after) => {
    if (before !== null) writeFileSync(FILE, before);
    const { directory, subject, before: state, run } = await prepared(configured(before, after));
    expect(run.arguments).toEqual(["daemon", "--repository", directory]);
    expect(write(directory)).toBe(0);
    expect(file()).toBe(after);
    expect(readdirSync(PARTS)).toEqual(after === null ? [] : ["vendor.sources"]);
    expect(driver.compare(subject, state, driver.observe())).toMatchObject({
      not_as_planned: [],
      changed_besides: [],
      inverse: [{ package: FILE }],
    });
    const change = configured(before, after);
    expect(driver.witness(directory, subject)).toEqual({
      verdict: "vouched",
      repository: { name: "vendor", before, after_sha256: change.after_sha256 },
    });
    expect(driver.left?.(directory)).toMatchObject({ repository_left: { path: FILE } });
  });

  test("is readable by all, whatever the umask", async () => {
    const umask = process.umask(0o077);
    try {
      const { directory } = await prepared(configured(null, NEW));
      expect(write(directory)).toBe(0);
    } finally {
      process.umask(umask);
    }
    expect(driver.observe()[FILE]).toMatch(/^sha256:[0-9a-f]{64}$/);
  });
});

describe("nothing is changed, and the reason is kept", () => {
  const refused = async (change: ConfiguredRepository, meanwhile: (directory: string) => void) => {
    const { directory, subject, before } = await prepared(change);
    meanwhile(directory);
    const left = file();
    expect(write(directory)).toBe(1);
    expect(file()).toBe(left);
    expect(readdirSync(PARTS).filter((name) => name.startsWith("."))).toEqual([]);
    return {
      witness: driver.witness(directory, subject),
      found: driver.compare(subject, before, driver.observe()),
    };
  };

  test("a file that somebody wrote meanwhile", async () => {
    const { witness, found } = await refused(configured(null, NEW), () => writeFileSync(FILE, "# mine\n"));
    expect(witness).toMatchObject({ verdict: "refused", code: "drift" });
    expect(found.not_as_planned).toHaveLength(1);
  });
  test("a file that was edited meanwhile", async () => {
    writeFileSync(FILE, OLD);
    const { witness } = await refused(configured(OLD, NEW), () =>
      writeFileSync(FILE, `${OLD}Trusted: yes\n`),
    );
    expect(witness).toMatchObject({ verdict: "refused", code: "drift" });
  });
  test("a file that is gone meanwhile", async () => {
    writeFileSync(FILE, OLD);
    const { witness } = await refused(configured(OLD, null), () => rmSync(FILE));
    expect(witness).toMatchObject({ verdict: "refused", reason: expect.stringContaining("it is gone") });
  });
  test("a link in its place", async () => {
    writeFileSync(FILE, OLD);
    const { witness } = await refused(configured(OLD, NEW), () => {
      rmSync(FILE);
      writeFileSync(join(ROOT, "elsewhere"), OLD);
      symlinkSync(join(ROOT, "elsewhere"), FILE);
    });
    expect(witness).toMatchObject({
      verdict: "refused",
      reason: expect.stringContaining("not a regular file"),
    });
    expect(readFileSync(join(ROOT, "elsewhere"), "utf8")).toBe(OLD);
  });
  test("no directory", async () => {
    const { directory, subject } = await prepared(configured(null, NEW));
    rmSync(PARTS, { recursive: true });
    expect(write(directory)).toBe(1);
    expect(driver.witness(directory, subject)).toMatchObject({
      verdict: "refused",
      code: "execution_failed",
      reason: expect.stringContaining("ENOENT"),
    });
  });
  test("a run that was stopped", async () => {
    let directory = "";
    const { witness } = await refused(configured(null, NEW), (at) => {
      directory = at;
      expect(driver.mayStop(at)).toBe(true);
    });
    expect(witness).toMatchObject({ verdict: "refused", code: "interrupted" });
    expect(driver.wasStopped(directory)).toBe("before anything was changed");
    expect(driver.mayStop(directory)).toBe(false);
  });
});

describe("refused before anything is used up", () => {
  test.each<[what: string, change: Partial<ConfiguredRepository>, argv: string[]]>([
    [
      "a file that is not the signed one",
      { after: `${NEW}Trusted: yes\n` },
      repositoryArgv(configured(null, NEW)),
    ],
    ["another name", { name: "other" }, repositoryArgv(configured(null, NEW))],
    ["another file in its place", { before: OLD }, repositoryArgv(configured(null, NEW))],
    ["another command", {}, ["aegis", "repository", "add", "vendor", "sha256:x"]],
    ["a command with a word more", {}, [...repositoryArgv(configured(null, NEW)), "x"]],
    ["a rollback's command", {}, ["aegis", "rollback", "npm", "/", "x"]],
  ])("%s", (_, change, argv) =>
    expect(prepared({ ...configured(null, NEW), ...change }, argv)).rejects.toMatchObject({
      code: "argv_mismatch",
    }),
  );

  const ready = () => driver.ready(planOf(configured(null, NEW)), waiting);
  test("a directory that isn't there", () => {
    rmSync(PARTS, { recursive: true });
    expect(ready()).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("ENOENT"),
    });
  });
  test("a link, a directory, a file that others may write", async () => {
    symlinkSync("/dev/null", FILE);
    expect(ready()).rejects.toMatchObject({ code: "unavailable" });
    rmSync(FILE);
    mkdirSync(FILE);
    expect(ready()).rejects.toMatchObject({ code: "unavailable" });
    rmSync(FILE, { recursive: true });
    writeFileSync(FILE, OLD);
    chmodSync(FILE, 0o666);
    expect(ready()).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("mode 666"),
    });
  });
  test("a good one leaves nothing behind", async () => {
    await ready();
    expect(readdirSync(PARTS)).toEqual([]);
  });
});

test("a change besides the plan is found", async () => {
  const { directory, subject, before } = await prepared(configured(null, NEW));
  writeFileSync(join(PARTS, "evil.list"), "deb [trusted=yes] https://evil.example/ ./\n");
  expect(write(directory)).toBe(0);
  expect(driver.compare(subject, before, driver.observe()).changed_besides).toMatchObject([
    { package: join(PARTS, "evil.list"), expected: null },
  ]);
});

/* The writer is killed after every few system calls: the file is the old one or the new one, and recovery says which. */
describe("killed at any point", () => {
  const writer = `import { writeRepository } from ${JSON.stringify(join(import.meta.dir, "../src/apt-repository-write.ts"))};
    process.stdin.once("data", () => { process.exitCode = writeRepository(process.argv[1], () => {}); process.stdin.destroy(); });
    process.stdout.write("ready");`;
  for (const [what, before, after] of [
    ["added", null, NEW],
    ["replaced", OLD, NEW],
    ["removed", OLD, null],
  ] as const) {
    test(what, async () => {
      const seen = new Set<string>();
      for (let n = 0; n < 12; n++) {
        rmSync(FILE, { force: true });
        if (before !== null) writeFileSync(FILE, before);
        const { directory, subject } = await prepared(configured(before, after));
        const child = Bun.spawn([process.execPath, "-e", writer, directory], {
          stdin: "pipe",
          stdout: "pipe",
        });
        await child.stdout.getReader().read();
        child.stdin.write("go");
        child.stdin.flush();
        // From before the first call to after the last one.
        await Bun.sleep(n / 2);
        child.kill("SIGKILL");
        await child.exited;
        expect([before, after]).toContain(file());
        driver.settle?.(directory);
        // Whoever starts late changes nothing any more.
        if (file() === before) expect(write(directory)).toBe(before === after ? 0 : 1);
        expect(readdirSync(PARTS).filter((name) => name.startsWith("."))).toEqual([]);
        const { verdict } = driver.witness(directory, subject);
        expect(verdict === "vouched").toBe(file() === after);
        seen.add(file() === after ? "new" : "old");
        expect(existsSync(join(directory, REPOSITORY_FILES.change))).toBe(true);
      }
      expect(seen.size).toBeGreaterThan(0);
    }, 60_000);
  }
});
