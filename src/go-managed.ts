import { join } from "node:path";
import type { OperationPlan } from "./doc-plan.ts";
import type { Difference } from "./doc-result.ts";
import type { ManagedTool, Route, SignedFile, Tree } from "./eco-managed.ts";
import { type BuildInfo, type BuiltFrom, readBuildInfo } from "./go-buildinfo.ts";
import { escapeGo } from "./go-sumdb.ts";
import { splitGoTarget } from "./go-target.ts";

/*
 * Go with a managed directory of programs: `go install` from a module proxy that has the signed files, and the program that it must
 * leave. https://go.dev/ref/mod#goproxy-protocol
 */

const MAX_PROGRAM = 1024 * 1024 * 1024;
const ROOT = "go";
const BIN = "bin";

export const goManaged: ManagedTool = {
  tool: "go",
  root: ROOT,

  routes(files) {
    const routes = new Map<string, Route>();
    const versions = new Map<string, Set<string>>();
    for (const file of files) {
      const { module, version, kind } = identify(file);
      const base = `/${escapeGo(module)}/@v/${escapeGo(version)}`;
      routes.set(`${base}.${kind}`, { file: file.path, type: "application/octet-stream" });
      routes.set(`${base}.info`, { body: infoOf(version), type: "application/json" });
      versions.set(module, (versions.get(module) ?? new Set()).add(version));
    }
    // Newer go commands look for deprecations in the newest version, which is the newest of these here.
    for (const [module, known] of versions) {
      const all = [...known].sort();
      routes.set(`/${escapeGo(module)}/@v/list`, {
        body: all.map((one) => `${one}\n`).join(""),
        type: "text/plain",
      });
      routes.set(`/${escapeGo(module)}/@latest`, {
        body: infoOf(all.at(-1) ?? ""),
        type: "application/json",
      });
    }
    return Promise.resolve(routes);
  },

  /*
   * The checksum database is off here: its signed trees aren't part of a plan, so the closed registry can't have them. Each file was
   * held against it in planning, by the executor too, and is fetched by its signed SHA-256; the program's own list of hashes is
   * compared with the signed ones afterwards.
   */
  settings: ({ registry, home, scratch }) => ({
    variables: {
      GOPROXY: registry,
      GOSUMDB: "off",
      GOENV: "off",
      GOWORK: "off",
      GO111MODULE: "on",
      GOTOOLCHAIN: "local",
      GOVCS: "*:off",
      GOFLAGS: "-mod=mod -trimpath",
      GOTELEMETRY: "off",
      CGO_ENABLED: "0",
      GOPATH: join("/var/lib/aegis", ROOT),
      GOBIN: join("/var/lib/aegis", ROOT, BIN),
      GOCACHE: join(scratch, "go-build"),
      GOMODCACHE: join(scratch, "go-mod"),
      GOTMPDIR: scratch,
      XDG_CONFIG_HOME: join(home, "no-config"),
    },
  }),

  check({ plan, files, before, stage, read, readBefore }) {
    const program = `${BIN}/${commandName(plan)}`;
    return Promise.resolve([
      ...programReplaced(plan, before, program, readBefore),
      ...programDiffering(plan, files, stage, program, read),
      ...changedElsewhere(before, stage, program),
    ]);
  },

  inventory(tree, read) {
    const found = new Map<string, Set<string>>();
    const add = (key: string, version: string) => found.set(key, (found.get(key) ?? new Set()).add(version));
    for (const path of programsIn(tree)) {
      const info = readBuildInfo(read(path, MAX_PROGRAM));
      if (info?.main == null) continue;
      add(info.main.path, info.main.version);
      for (const { path: module, version } of info.dependencies) add(`${module} ${info.main.path}`, version);
    }
    return Object.fromEntries([...found].map(([key, versions]) => [key, [...versions].sort().join(" ")]));
  },

  executables: (tree) =>
    Object.fromEntries(programsIn(tree).map((path) => [path.slice(BIN.length + 1), path])),
};

/** Of which module a file is, in which version: planning names support files `<module> <version>/go.mod` and `…/zip`. */
function identify({ name, version, isSupport }: SignedFile): {
  module: string;
  version: string;
  kind: "mod" | "zip";
} {
  if (!isSupport) return { module: name, version, kind: "zip" };
  const [module = "", rest = ""] = name.split(" ");
  const slash = rest.lastIndexOf("/");
  return { module, version: rest.slice(0, slash), kind: rest.slice(slash + 1) === "zip" ? "zip" : "mod" };
}

function infoOf(version: string): string {
  return JSON.stringify({ Version: version });
}

/** The program's file name: the last element of its path, or the one before where that is a major version. cmd/go, `DefaultExecName` */
function commandName({ exact_targets }: OperationPlan): string {
  const elements = splitGoTarget(exact_targets[0] ?? "").path.split("/");
  const last = elements.pop() ?? "";
  return /^v(?:[2-9]|[1-9]\d+)$/.test(last) ? (elements.pop() ?? last) : last;
}

function programsIn(tree: Tree): string[] {
  return [...tree].flatMap(([path, entry]) =>
    entry.kind === "file" && entry.executable && /^bin\/[^/]+$/.test(path) ? [path] : [],
  );
}

function programDiffering(
  plan: OperationPlan,
  files: readonly SignedFile[],
  stage: Tree,
  program: string,
  read: (path: string, limit: number) => Uint8Array,
): Difference[] {
  const entry = stage.get(program);
  if (entry?.kind !== "file" || !entry.executable) return [difference(program, "a program", null)];
  const info = readBuildInfo(read(program, MAX_PROGRAM));
  if (info === null) return [difference(program, "a program built by go", "another file")];
  const target = splitGoTarget(plan.exact_targets[0] ?? "");
  const zips = new Map(
    files.flatMap((file) => {
      const { module, version, kind } = identify(file);
      return kind === "zip" ? [[`${module} ${version}`, file.integrity]] : [];
    }),
  );
  const strange = [...(info.main === null ? [] : [info.main]), ...info.dependencies].filter(
    (one) => zips.get(`${one.path} ${one.version}`) !== one.sum,
  );
  return [
    ...strange.map((one) => difference(program, zips.get(`${one.path} ${one.version}`) ?? null, nameOf(one))),
    ...(isOf(info, target) ? [] : [difference(program, plan.exact_targets[0] ?? "", ofWhat(info))]),
    ...(info.isReplaced ? [difference(program, null, "replaced modules")] : []),
    ...(info.settings.get("CGO_ENABLED") === "0" ? [] : [difference(program, "no C", "built with C")]),
  ];
}

/** go overwrites whatever has the name. Another major version of a package has another path. */
function programReplaced(
  plan: OperationPlan,
  before: Tree,
  program: string,
  read: (path: string, limit: number) => Uint8Array,
): Difference[] {
  const old = before.get(program)?.kind === "file" ? readBuildInfo(read(program, MAX_PROGRAM)) : null;
  const { path } = splitGoTarget(plan.exact_targets[0] ?? "");
  const withoutMajor = (one: string) => one.replace(/\/v\d+(?=\/|$)/g, "");
  if (old === null || withoutMajor(old.path) === withoutMajor(path)) return [];
  return [difference(program, `the program of ${old.path}, which is installed`, `the one of ${path}`)];
}

function isOf({ path, main }: BuildInfo, target: { path: string; version: string | null }): boolean {
  const isBelow = main !== null && (path === main.path || path.startsWith(`${main.path}/`));
  return isBelow && path === target.path && main.version === target.version;
}

function ofWhat({ path, main }: BuildInfo): string {
  return `${path}@${main?.version ?? "no version"}`;
}

function nameOf({ path, version, sum }: BuiltFrom): string {
  return `${path} ${version} ${sum}`;
}

function changedElsewhere(before: Tree, stage: Tree, program: string): Difference[] {
  return [...new Set([...before.keys(), ...stage.keys()])].flatMap((path) => {
    const [old, now] = [before.get(path), stage.get(path)];
    // A directory stands in a tree only while it is empty.
    if (
      path === program ||
      [old?.kind, now?.kind].every((kind) => kind === undefined || kind === "directory")
    )
      return [];
    if (JSON.stringify(old) === JSON.stringify(now)) return [];
    return [
      difference(path, old === undefined ? null : "as before", now === undefined ? null : "another file"),
    ];
  });
}

function difference(what: string, expected: string | null, found: string | null): Difference {
  return { package: what, architecture: "all", expected, found };
}
