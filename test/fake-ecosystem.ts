import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { CONTENT_REPLACED } from "../src/doc-evidence.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { readResult } from "../src/doc-result.ts";
import { type Ecosystem, emptyFindings } from "../src/eco.ts";
import type { HostState, RunDriver, RunSubject } from "../src/eco-driver.ts";
import type { Grammar, Targets } from "../src/eco-grammar.ts";
import { ECOSYSTEMS, type Ecosystems } from "../src/eco-load.ts";
import { AegisError } from "../src/errors.ts";
import { createFileExclusive } from "../src/sys-files.ts";
import type { StatePaths } from "../src/sys-state.ts";

/*
 * An ecosystem for the tests of the executor: its host is a directory of files, name → version, and its tool is a program
 * beside it that really runs. It stands in for an ecosystem that is not built, whose place in the documents it takes.
 */

/** Where the fake host is, and what its tool does next: a word of {@link TOOL}. */
export interface FakeHost {
  store: string;
  tool: string;
  mode(word: string): void;
  /** As whom the tool runs; root, which is whoever runs the test, where it is left out. */
  user?: string;
}

const TOOL = `#!${process.execPath}
const { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { FAKE_STORE: store, FAKE_RUN: run, FAKE_MODE: modeFile } = process.env;
const mode = readFileSync(modeFile, "utf8");
const [name, version] = process.argv[3].split("@");
const status = (line) => writeFileSync(3, line + "\\n");
process.stdout.write("installing " + name + "\\n" + readFileSync("/proc/self/status", "utf8"));
status("10 fetching");
if (mode === "waits") while (!existsSync(modeFile + ".go")) Bun.sleepSync(20);
if (mode === "fails") { process.stderr.write("no such thing\\n"); process.exit(3); }
if (mode === "dies") process.kill(process.pid, "SIGKILL");
if (mode !== "no receipt") writeFileSync(join(run, "receipt"), mode === "other bytes" ? "refused" : "vouched");
if (mode === "other bytes") process.exit(1);
status("90 writing");
writeFileSync(join(store, name), mode === "deviates" ? "9.9.9" : version);
if (mode === "besides") writeFileSync(join(store, "other.thing"), "1.0.0");
status("100 done");
`;

/** Makes a fake host below a directory. */
export function makeFakeHost(directory: string): FakeHost {
  const [store, tool, mode] = ["store", "fake-tool", "mode"].map((name) => join(directory, name));
  if (store === undefined || tool === undefined || mode === undefined) throw new Error("unreachable");
  mkdirSync(store);
  writeFileSync(tool, TOOL);
  chmodSync(tool, 0o755);
  writeFileSync(mode, "works");
  return { store, tool, mode: (word) => writeFileSync(mode, word) };
}

const NAME = /^[a-z]+\.[a-z]+@\d+\.\d+\.\d+$/;

export const fakeGrammar: Grammar = {
  tool: "vscode",
  operations: { install: "some", rollback: "some" },
  parseTargets(operation, targets): Targets {
    const shape = operation === "rollback" ? /^[0-9a-f-]{36}$/ : NAME;
    const bad = targets.find((target) => !shape.test(target));
    if (bad !== undefined) throw new AegisError("invalid_target", `${bad} is no extension`);
    return { targets: [...targets], denied: [], targetType: "extension" };
  },
  forms: { all: ["name@version"], exact: "name@version" },
  signals: ["bundled-binary-risk"],
  isExact: () => true,
  osv: () => null,
  claims: {
    hostFacts: ({ warnings }) => [{ what: "what the host calls itself", items: warnings }],
    mayDiffer: { fields: ["deprecated"], ofRepositories: [], warnings: [] },
  },
  programs: [],
};

/**
 * This program's ecosystems and the fake one, on a fake host, for an executor with these paths. `change` takes the place of
 * parts of its driver.
 */
export function withFake(host: FakeHost, paths: StatePaths, change: Partial<RunDriver> = {}): Ecosystems {
  const fake: Ecosystem = {
    ...fakeGrammar,
    async gather(operation, { targets }, planning) {
      const exact = operation === "rollback" ? undone(targets[0] ?? "", paths) : targets;
      const [name = "", version = ""] = exact[0]?.split("@") ?? [];
      const from = installed(host)[name]?.split(" ")[0] ?? null;
      return {
        ...emptyFindings(argvOf(exact)),
        exact_targets: [...exact],
        metadata_available: true,
        source_registry: "marketplace.visualstudio.com",
        nothing_to_do: from === version,
        transaction:
          from === version
            ? []
            : [
                {
                  name,
                  architecture: "all",
                  action: from === null ? "install" : "upgrade",
                  from_version: from,
                  to_version: version,
                  ...{ origin: null, archive: null, sha256: "0".repeat(64), size: 1, essential: false },
                  ...{ source: null, from_source: null, to_source: null, sources: [] },
                },
              ],
        provenance_evidence: [
          ...[...exact, ...targets].map((subject) => ({ kind: "fake-checksum", subject })),
          // A rollback brings back a version that an execution installed.
          ...(operation === "rollback" ? [{ kind: CONTENT_REPLACED, subject: targets[0] ?? "" }] : []),
        ].map((entry) => ({ ...entry, verified: true, key: null, detail: planning.host.hostname })),
        signals: ["bundled-binary-risk"],
      };
    },
    check: () => Promise.resolve([]),
    signedArgv: (plan: OperationPlan) => argvOf(plan.exact_targets),
    driver: () => Promise.resolve({ ...driverOf(host, paths), ...change }),
  };
  return { ...ECOSYSTEMS, vscode: { grammar: fakeGrammar, load: () => Promise.resolve(fake) } };
}

function argvOf(exact: readonly string[]): string[] {
  const managed = "/var/lib/aegis/vscode";
  return [
    ...["code", "--install-extension", ...exact],
    ...["--user-data-dir", `${managed}/user-data`, "--extensions-dir", `${managed}/extensions`],
  ];
}

function undone(execution: string, paths: StatePaths): string[] {
  return (readResult(execution, paths)?.inverse ?? []).map((undo) => `${undo.package}@${undo.before}`);
}

function installed({ store }: FakeHost): HostState {
  const names = readdirSync(store).sort();
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(store, name), "utf8")]));
}

/** The run driver of the fake ecosystem. */
export function driverOf(host: FakeHost, paths: StatePaths): RunDriver {
  return {
    user: host.user ?? "root",
    roots: [host.store],
    hold: () => Promise.resolve(null),
    ready: () => Promise.resolve(),
    prepare(_plan, _argv, { directory, archives, account }) {
      mkdirSync(directory);
      mkdirSync(archives);
      if (account !== null) chownSync(archives, account.uid, account.gid);
      return Promise.resolve({
        directory,
        program: host.tool,
        environment: {
          FAKE_STORE: host.store,
          FAKE_RUN: archives,
          FAKE_MODE: join(host.store, "../mode"),
        },
        cwd: "/",
        facts: { fake_settings_sha256: "1".repeat(64) },
      });
    },
    observe: () => installed(host),
    progress(line) {
      const [, percent, message] = /^(\d+) (.*)$/.exec(line) ?? [];
      return message === undefined ? null : { percent: Number(percent), message };
    },
    mayStop: (directory) => createFileExclusive(join(directory, "stopped"), ""),
    wasStopped: (directory) => (existsSync(join(directory, "stopped")) ? "before it began" : null),
    limitMs: () => 60_000,
    isAlive: () => false,
    witness(directory) {
      const path = join(paths.archives, basename(directory), "receipt");
      const said = existsSync(path) ? readFileSync(path, "utf8") : "";
      if (said === "vouched") return { verdict: "vouched" };
      if (said === "refused") return { verdict: "refused", code: "hash_mismatch", reason: "other bytes" };
      return { verdict: "absent", reason: "nothing vouches for the bytes" };
    },
    compare,
    watchBesides: () => () => [],
    advice: () => Promise.resolve({ text: "", facts: { fake_state: "well" } }),
  };
}

function compare({ transaction }: RunSubject, before: HostState, after: HostState) {
  const planned = new Map(transaction.map(({ name, to_version }) => [name, to_version]));
  const names = [...new Set([...Object.keys(before), ...Object.keys(after), ...planned.keys()])].sort();
  const differences = names.flatMap((name) => {
    const [old = null, now = null] = [before[name], after[name]];
    const expected = planned.has(name) ? (planned.get(name) ?? null) : old;
    return now === expected ? [] : [{ package: name, architecture: "all", expected, found: now }];
  });
  return {
    not_as_planned: differences.filter((it) => planned.has(it.package)),
    changed_besides: differences.filter((it) => !planned.has(it.package)),
    inverse: [...planned.keys()].flatMap((name) => {
      const [old = null, left = null] = [before[name], after[name]];
      return old === left ? [] : [{ package: name, architecture: "all", before: old, left }];
    }),
  };
}
