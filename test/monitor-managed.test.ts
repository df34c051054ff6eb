import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, lchownSync, linkSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { readEvents } from "../src/audit-read.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { managedPlaces, prepareManaged } from "../src/eco-exchange.ts";
import { ECOSYSTEMS } from "../src/eco-load.ts";
import {
  installedBeside,
  publishRecord,
  type RecordedChange,
  restoredOver,
  stageRecord,
} from "../src/eco-record.ts";
import { readTree } from "../src/eco-stage.ts";
import { lookAtManaged, type ManagedLook } from "../src/monitor-managed.ts";
import { type ManagedSeen, managedEvents } from "../src/monitor-managed-events.ts";
import { fakeManaged } from "./managed-fake.ts";
import { needs } from "./needs.ts";
import { install } from "./policy-plans.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/*
 * A managed root and a log of the test's own: what the log's last word on the root says, against what is there.
 */

const OWNER = process.getuid?.() ?? 0;
const FIRST = "11111111-1111-4111-8111-111111111111";
const SECOND = "22222222-2222-4222-8222-222222222222";
const THIRD = "33333333-3333-4333-8333-333333333333";
const TOOL = { ...fakeManaged, tool: "npm" as const };

const asRoot = needs(OWNER === 0, "root, who may give files away");

let directory: string;
let remove: () => void;
let state: string;
let audit: string;
let root: string;
beforeEach(() => {
  ({ path: directory, remove } = temporaryDirectory());
  [state, audit] = [join(directory, "state"), join(directory, "log")];
  mkdirSync(state, { mode: 0o755 });
  const places = managedPlaces(state, TOOL.root);
  prepareManaged(places);
  ({ root } = places);
});
afterEach(() => remove());

const { npm } = ECOSYSTEMS;
const look = async (): Promise<{ fake: ManagedLook; links: ManagedLook; executions: string[] }> => {
  if (npm === undefined) throw new Error("unreachable");
  const ecosystems = { npm: { ...npm, managed: () => Promise.resolve(TOOL) } };
  const { roots, executions } = await lookAtManaged(null, { state, audit, owner: OWNER, ecosystems });
  const [fake, links] = roots;
  if (fake === undefined || links === undefined) throw new Error("two are looked at");
  return { fake, links, executions: executions.map(({ id }) => id) };
};

function put(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(join(root, path)), { recursive: true, mode: 0o755 });
  writeFileSync(join(root, path), text);
  chmodSync(join(root, path), mode);
}

function log(event: NewAuditEvent): void {
  const to = openAuditLog(audit);
  to.append(event);
  to.close();
}

/** What an execution does to the root, as its supervisor records it and the runner logs it. */
function execute(id: string, files: Record<string, string>, change: Partial<RecordedChange> = {}): void {
  const before = readTree(root, OWNER);
  for (const [path, text] of Object.entries(files)) put(path, text, path === "tool" ? 0o755 : 0o644);
  const after = readTree(root, OWNER);
  const transaction = Object.keys(files).map((name) => ({ ...ENTRY, name }));
  const executables = after.has("tool") ? [{ name: "tool", path: join(root, "tool") }] : [];
  const stage = join(state, "stage", id);
  mkdirSync(stage, { recursive: true });
  const left = stageRecord(stage, state, {
    plan: { ...install(), transaction },
    ...{ root: TOOL.root, execution: id, after },
    origin: change.plan?.operation === "rollback" ? restoredOver(before, after) : installedBeside(before),
    inventory: Object.fromEntries([...after.keys()].map((path) => [path, "1.0.0"])),
    listsParts: false,
    executables: executables.map((one) => ({ ...one, sha256: "", shadows: [] })),
    ...change,
  });
  publishRecord(stage, state, TOOL.root, id);
  rmSync(join(state, "bin/tool"), { force: true });
  if (executables.length > 0) symlinkSync(join(root, "tool"), join(state, "bin/tool"));
  const approved_by = [{ name: "bob", key_id: "b" }];
  log({ kind: "execution_started", execution_id: id, details: { tool: "npm" } });
  log({
    kind: "execution_completed",
    ...{ execution_id: id, actor: "ops (key o)" },
    details: { operation: `npm install ${Object.keys(files)}`, approved_by, managed_root: left },
  });
}

const ENTRY = {
  ...{
    architecture: "all",
    action: "install" as const,
    from_version: null,
    to_version: "1.0.0",
    origin: null,
  },
  ...{ archive: null, sha256: null, size: null, essential: false, source: null, from_source: null },
  ...{ to_source: null, sources: [] },
};

describe("a managed root, by the log", () => {
  test("nothing was ever installed", async () => {
    const { fake, links } = await look();
    expect([fake.state, links.state, fake.packages]).toEqual(["empty", "empty", []]);
  });

  const CHANGES: [string, () => void, string[]][] = [
    ["a byte", () => put("lib", "two"), ["lib: changed"]],
    ["a file more", () => put("new/file", "x"), ["new/file: added"]],
    ["a file less", () => rmSync(join(root, "lib")), ["lib: removed"]],
    ["a file in place of a link", () => replaceLink("to", "lib"), ["to: changed"]],
    ["a link that leads elsewhere", () => relink("to", "tool"), ["to: leads elsewhere"]],
    ["a link out of the root", () => relink("to", "/etc/passwd"), ['to: is a link to "/etc/passwd"']],
    ["what others may write", () => chmodSync(join(root, "lib"), 0o666), ["lib: has the mode 0666"]],
    ["the root itself, that others may write", () => chmodSync(root, 0o777), [": has the mode 0777"]],
    ["what may run now", () => chmodSync(join(root, "lib"), 0o755), ["lib: became executable"]],
    ["what may not run", () => chmodSync(join(root, "tool"), 0o644), ["tool: is no longer executable"]],
    ["set-user-id", () => chmodSync(join(root, "tool"), 0o4755), ["tool: has special mode bits"]],
    [
      "a second name",
      () => linkSync(join(root, "lib"), join(directory, "other")),
      ["lib: has a second name (hard link)"],
    ],
    [
      "a name that draws on screens",
      () => put("a\u001b[2J", "x"),
      ["a\u001b[2J: has characters that no file name needs"],
    ],
  ];
  const replaceLink = (path: string, text: string) => {
    rmSync(join(root, path));
    put(path, text);
  };
  const relink = (path: string, target: string) => {
    rmSync(join(root, path));
    symlinkSync(target, join(root, path));
  };
  test.each(CHANGES)("deviates by %s", async (_, change, expected) => {
    symlinkSync("lib", join(root, "to"));
    execute(FIRST, { lib: "one", tool: "t" }, { origin: () => "signed" });
    expect((await look()).fake.state).toBe("signed");
    change();
    const { fake } = await look();
    expect(fake.state).toBe("deviating");
    expect(fake.deviations.map(({ path, what }) => `${path}: ${what}`)).toEqual(expected);
  });

  asRoot.test("deviates by another owner", async () => {
    execute(FIRST, { lib: "one" });
    lchownSync(join(root, "lib"), 12345, 0);
    expect((await look()).fake.deviations).toMatchObject([{ path: "lib", what: "belongs to uid 12345" }]);
  });

  test("somebody made it by hand, with no execution", async () => {
    put("lib", "one");
    const { fake } = await look();
    expect(fake).toMatchObject({
      state: "deviating",
      execution: null,
      deviations: [{ path: "lib", what: "added" }],
    });
    expect(fake.packages).toMatchObject([{ name: "lib", execution: null }]);
  });

  test("what was there before its first execution was signed by nobody, and stays told", async () => {
    put("old", "mine");
    execute(FIRST, { lib: "one" });
    const { fake } = await look();
    expect(fake.deviations.map(({ path, what }) => [path, what])).toEqual([["old", "added"]]);
    expect(fake.packages.map(({ name, execution }) => [name, execution])).toEqual([
      ["lib", FIRST],
      ["old", null],
    ]);
  });

  test("a changed file does not become right because the next execution keeps it", async () => {
    execute(FIRST, { lib: "one" });
    put("lib", "evil");
    execute(SECOND, { other: "x" });
    const { fake } = await look();
    expect(fake).toMatchObject({ state: "deviating", execution: SECOND });
    expect(fake.deviations.map(({ path, what }) => [path, what])).toEqual([["lib", "changed"]]);
    execute(THIRD, { lib: "one" });
    expect((await look()).fake.state).toBe("signed");
  });

  test("nor because a rollback brings it back", async () => {
    execute(FIRST, { lib: "one" });
    put("lib", "evil");
    execute(SECOND, { lib: "two" });
    expect((await look()).fake.state).toBe("signed");
    execute(THIRD, { lib: "evil" }, { plan: { operation: "rollback", targets: [SECOND], transaction: [] } });
    const { fake } = await look();
    expect(fake.deviations.map(({ path, what }) => [path, what])).toEqual([["lib", "changed"]]);
  });

  test("a rollback is what brought back what it brought back", async () => {
    execute(FIRST, { lib: "one", tool: "t" });
    execute(SECOND, { lib: "two" }, { inventory: { lib: "2.0.0", tool: "1.0.0" } });
    const plan = { operation: "rollback", targets: [SECOND], transaction: [] };
    execute(THIRD, { lib: "one" }, { plan });
    const { fake, executions } = await look();
    expect(fake.state).toBe("signed");
    expect(fake.packages.map(({ name, execution }) => [name, execution])).toEqual([
      ["lib", THIRD],
      ["tool", FIRST],
    ]);
    expect(executions).toEqual([FIRST, THIRD]);
  });

  test("each package by the last execution that brought it, with what it is part of", async () => {
    execute(
      FIRST,
      { lib: "one", tool: "t" },
      { inventory: { lib: "1.0.0", tool: "1.0.0", "part tool": "1.0.0 2.0.0" } },
    );
    execute(
      SECOND,
      { lib: "two" },
      { inventory: { lib: "1.0.0", tool: "1.0.0", "part tool": "1.0.0 2.0.0" } },
    );
    const { fake } = await look();
    expect(fake.packages.map((one) => [one.name, one.version, one.part_of, one.execution])).toEqual([
      ["lib", "1.0.0", null, SECOND],
      ["tool", "1.0.0", null, FIRST],
      ["part", "1.0.0", "tool", null],
      ["part", "2.0.0", "tool", null],
    ]);
  });

  test("what programs were built from comes from the plan, and stays with them", async () => {
    const transaction: TransactionEntry[] = [
      { ...ENTRY, name: "tool" },
      { ...ENTRY, name: "serde", required_by: "tool 1.0.0" },
      { ...ENTRY, name: "itoa", required_by: "serde 1.0.0" },
    ];
    const built = { listsParts: true, inventory: { tool: "1.0.0" } };
    execute(FIRST, { tool: "t" }, { ...built, plan: { ...install(), transaction } });
    const names = async () =>
      (await look()).fake.packages.map(
        (one) => `${one.name} in ${one.part_of} by ${one.execution?.slice(0, 1)}`,
      );
    const parts = ["serde in tool by 1", "itoa in tool by 1"];
    expect(await names()).toEqual(["tool in null by 1", ...parts]);
    const other = { ...install(), transaction: [{ ...ENTRY, name: "lib" }] };
    execute(SECOND, { lib: "x" }, { ...built, inventory: { tool: "1.0.0", lib: "1.0.0" }, plan: other });
    expect(await names()).toEqual(["tool in null by 1", "lib in null by 2", ...parts]);
  });

  test("a record that is not the log's is not believed", async () => {
    execute(FIRST, { lib: "one" });
    const record = join(state, "inventory/fake.ndjson");
    writeFileSync(record, "{}\n");
    expect((await look()).fake).toMatchObject({
      state: "signed",
      problem: expect.stringContaining("its record"),
    });
    put("lib", "two");
    expect((await look()).fake).toMatchObject({ state: "deviating", deviations: [] });
    rmSync(record);
    expect((await look()).fake.state).toBe("deviating");
  });

  test("while an execution is at work nothing is said", async () => {
    execute(FIRST, { lib: "one" });
    log({ kind: "execution_started", execution_id: SECOND, details: { tool: "npm" } });
    expect((await look()).fake.state).toBe("signed");
    put("lib", "two");
    expect((await look()).fake.state).toBe("changing");
    log({ kind: "execution_completed", execution_id: SECOND, details: { state: "failed" } });
    expect((await look()).fake.state).toBe("deviating");
  });

  test("links to commands: another's, another target, a file, one missing", async () => {
    execute(FIRST, { tool: "t" });
    const bin = (name: string) => join(state, "bin", name);
    const said = async () => (await look()).links.deviations.map(({ path, what }) => `${path} ${what}`);
    expect(await said()).toEqual([]);
    symlinkSync(join(root, "tool"), bin("extra"));
    writeFileSync(bin("plain"), "");
    rmSync(bin("tool"));
    expect(await said()).toEqual(["extra added", "plain is no link of ours", "tool removed"]);
    symlinkSync("/bin/sh", bin("tool"));
    expect(await said()).toEqual(["extra added", "plain is no link of ours", "tool leads elsewhere"]);
  });
});

describe("the monitor's events of managed roots", () => {
  let saved: ManagedSeen;
  beforeEach(() => {
    saved = {};
  });
  /** One run of the monitor. */
  const run = async () => {
    const { fake, links } = await look();
    const { events, seen } = managedEvents([fake, links], saved, []);
    saved = seen;
    for (const event of events) log(event);
    return events.map(({ details }) => details?.changes);
  };

  test("once, again when it changes, and when it is gone", async () => {
    execute(FIRST, { lib: "one" });
    expect(await run()).toEqual([]);
    put("lib", "two");
    expect(await run()).toEqual([["changed: lib"]]);
    expect(await run()).toEqual([]);
    put("lib", "three");
    expect(await run()).toEqual([["changed: lib"]]);
    put("lib", "one");
    expect(await run()).toEqual([[]]);
    expect(await run()).toEqual([]);
  });

  test("an execution that replaces it ends it without a word; one that keeps it does not", async () => {
    execute(FIRST, { lib: "one", tool: "t" });
    put("lib", "two");
    expect(await run()).toEqual([["changed: lib"]]);
    execute(SECOND, { tool: "t2" });
    expect(await run()).toEqual([["changed: lib"]]);
    execute(THIRD, { lib: "one" });
    expect(await run()).toEqual([]);
    expect(saved).toEqual({});
  });

  test("while an execution is at work it waits", async () => {
    execute(FIRST, { lib: "one" });
    log({ kind: "execution_started", execution_id: SECOND, details: { tool: "npm" } });
    put("lib", "two");
    expect(await run()).toEqual([]);
    log({ kind: "execution_interrupted", execution_id: SECOND });
    expect(await run()).toEqual([["changed: lib"]]);
  });

  test("with its state lost it goes by the log", async () => {
    execute(FIRST, { lib: "one" });
    put("lib", "two");
    expect(await run()).toHaveLength(1);
    const { fake, links } = await look();
    const recorded = readEvents(audit, { kind: "unmanaged_change" });
    expect(managedEvents([fake, links], {}, recorded).events).toEqual([]);
    put("lib", "one");
    const again = managedEvents([(await look()).fake], {}, recorded).events;
    expect(again).toMatchObject([{ details: { count: 0, managed_root: root } }]);
  });

  test("thousands of paths are a bounded event", async () => {
    execute(FIRST, { lib: "one" });
    for (let n = 0; n < 3000; n++) put(`n${n}`, "");
    await run();
    const [event] = readEvents(audit, { kind: "unmanaged_change" });
    expect(event?.details).toMatchObject({ count: 3000, tool: "npm", managed_root: root, execution: FIRST });
    expect(event?.details?.changes).toHaveLength(20);
    expect(String(event?.details?.message)).toContain(`3000 paths not as execution ${FIRST} left them`);
  });
});
