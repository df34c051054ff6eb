import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { CommandEvidence } from "./doc-plan.ts";
import type { Planning } from "./eco-planning.ts";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";
import type { GoConfig } from "./go-config.ts";
import { escapeGo, unescapeGo } from "./go-sumdb.ts";
import { isGoVersion } from "./go-target.ts";

/*
 * Module proxies, and the module graph that the go command makes from what they serve. https://go.dev/ref/mod#goproxy-protocol
 */

/** Files of the module graph beyond which no plan is made. */
const MAX_MODULES = 4000;
const MAX_PATH_ELEMENTS = 32;

const Module = v.looseObject({
  Path: v.string(),
  Version: v.optional(v.string()),
  Main: v.optional(v.boolean()),
  Time: v.optional(v.string()),
  Replace: v.optional(v.unknown()),
  Error: v.optional(v.looseObject({ Err: v.string() })),
});

export interface GoModule {
  path: string;
  version: string;
}

/** Asks the proxies of a configuration, in their order: the next where one has no such file (404, 410). */
export function proxyReader(config: GoConfig, planning: Planning) {
  return async function read(path: string): Promise<{ url: URL; bytes: Uint8Array } | null> {
    for (const { url: proxy, request } of config.proxies) {
      const url = new URL(`${proxy.href.replace(/\/$/, "")}/${path}`);
      const { status, bytes, location } = await planning.get(url, request);
      if (status === 200) return { url, bytes };
      if (status === 404 || status === 410) continue;
      const elsewhere = location === "" ? "" : " and sends elsewhere, which is not followed";
      throw new AegisError("unavailable", `${url.host} answers ${status}${elsewhere}: ${path}`);
    }
    return null;
  };
}
export type ReadProxy = ReturnType<typeof proxyReader>;

/**
 * The module that has a package, as the go command finds it: the longest path that is a module with this version.
 * @throws AegisError `not_found`, `unavailable`
 */
export async function findModule(path: string, version: string, read: ReadProxy): Promise<GoModule> {
  const elements = path.split("/").slice(0, MAX_PATH_ELEMENTS);
  for (let n = elements.length; n > 0; n--) {
    const prefix = elements.slice(0, n).join("/");
    if ((await read(`${escapeGo(prefix)}/@v/${escapeGo(version)}.info`)) !== null)
      return { path: prefix, version };
  }
  throw new AegisError(
    "not_found",
    `no module proxy has ${path} ${version}`,
    "See which versions there are: aegis plan go get <module> takes the newest and names it.",
  );
}

/**
 * The newest release of the module that has a package; of modules without one the newest version at all.
 * @throws AegisError `not_found`, `unavailable`
 */
export async function newestVersion(path: string, read: ReadProxy): Promise<GoModule> {
  const elements = path.split("/").slice(0, MAX_PATH_ELEMENTS);
  for (let n = elements.length; n > 0; n--) {
    const prefix = elements.slice(0, n).join("/");
    const answer = await read(`${escapeGo(prefix)}/@v/list`);
    const versions = Buffer.from(answer?.bytes ?? [])
      .toString()
      .split("\n")
      .filter(isGoVersion);
    const sorted = versions.toSorted((a, b) => SEMVER.compare(b, a));
    const newest = sorted.find((one) => !one.includes("-")) ?? sorted[0];
    if (newest !== undefined) return { path: prefix, version: newest };
  }
  throw new AegisError(
    "not_found",
    `no module proxy has a tagged version of ${path}`,
    "Name the version: <module>@<version>.",
  );
}

/** A module version that a build takes. */
export type Listed = GoModule & { time: string | null };

/**
 * The module graph by the go command: the versions that a build takes, and every version whose go.mod it read to find them.
 * @throws AegisError `unavailable`
 */
export async function moduleGraph(
  root: GoModule,
  config: GoConfig,
  planning: Planning,
): Promise<{ list: ReadonlyMap<string, Listed>; graph: GoModule[]; command: CommandEvidence }> {
  let home = "";
  const goMod = `module aegis.invalid/plan\n\ngo 1.17\n\nrequire ${root.path} ${root.version}\n`;
  const { stdout, stderr, evidence } = await planning.run(["go", "list", "-m", "-json", "all"], {
    settings: (fresh) => {
      home = fresh;
      return {
        workFiles: { "go.mod": goMod },
        variables: { ...config.variables, GOPATH: join(fresh, "go"), GOCACHE: join(fresh, "cache") },
      };
    },
  });
  if (evidence.outcome !== "ok") {
    const said = stderr.trim().split("\n").at(-1) ?? "";
    const why =
      evidence.outcome === "missing"
        ? "go is not installed"
        : `go list ended with ${evidence.outcome}: ${said}`;
    throw new GraphError(why.slice(0, 1000), evidence);
  }
  const list = new Map<string, Listed>();
  for (const text of stdout.split(/^(?=\{$)/m).filter((part) => part.trim() !== "")) {
    const one = v.parse(Module, parseJson(text));
    if (one.Main === true) continue;
    if (one.Version === undefined || one.Error !== undefined || one.Replace !== undefined)
      throw new GraphError(`go list says of ${one.Path}: ${one.Error?.Err ?? "no plain version"}`, evidence);
    list.set(one.Path, { path: one.Path, version: one.Version, time: one.Time ?? null });
  }
  const graph = cachedGoMods(join(home, "go/pkg/mod/cache/download"), planning);
  if (list.size > MAX_MODULES || graph.length > MAX_MODULES)
    throw new GraphError(`its module graph has more than ${MAX_MODULES} modules`, evidence);
  return { list, graph, command: evidence };
}

/** Why there is no module graph, with the evidence of the command. */
export class GraphError extends AegisError {
  readonly evidence: CommandEvidence;

  constructor(why: string, evidence: CommandEvidence) {
    super("unavailable", why);
    this.evidence = evidence;
  }
}

/** The module versions whose go.mod is in a download cache of the go command. https://go.dev/ref/mod#module-cache */
function cachedGoMods(cache: string, planning: Planning): GoModule[] {
  const found: GoModule[] = [];
  const visit = (directory: string, path: string, depth: number): void => {
    for (const name of depth > MAX_PATH_ELEMENTS ? [] : planning.list(directory)) {
      if (name === "@v") {
        const mods = planning.list(join(directory, name)).filter((file) => file.endsWith(".mod"));
        for (const file of mods)
          found.push({ path: unescapeGo(path), version: unescapeGo(file.slice(0, -4)) });
      } else if (!(depth === 0 && (name === "sumdb" || name === "cache.lock"))) {
        visit(join(directory, name), path === "" ? name : `${path}/${name}`, depth + 1);
      }
    }
  };
  visit(cache, "", 0);
  return found;
}
