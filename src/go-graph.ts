import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { CommandEvidence } from "./doc-plan-evidence.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { planningVariables } from "./go-config.ts";
import type { GoModule, ReadProxy } from "./go-proxy.ts";
import { startRelay } from "./go-relay.ts";
import { unescapeGo } from "./go-sumdb.ts";

/*
 * The module graph, which the go command makes: minimal version selection with graph pruning is its business.
 * https://go.dev/ref/mod#minimal-version-selection
 */

/** Modules in a graph beyond which no plan is made. */
const MAX_MODULES = 4000;

const Module = v.looseObject({
  Path: v.string(),
  Version: v.optional(v.string()),
  Main: v.optional(v.boolean()),
  Time: v.optional(v.string()),
  Replace: v.optional(v.unknown()),
  Error: v.optional(v.looseObject({ Err: v.string() })),
});

/** A module version that a build takes. */
export type Listed = GoModule & { time: string | null };

/**
 * The module graph by the go command: the versions that a build takes, and every version whose go.mod it read to find them.
 * @throws AegisError `unavailable`, and what `read` throws
 */
export async function moduleGraph(
  goMod: string,
  read: ReadProxy,
  planning: Planning,
): Promise<{ list: ReadonlyMap<string, Listed>; graph: GoModule[] }> {
  const relay = startRelay(read);
  try {
    const { stdout, stderr, evidence } = await planning.run(["go", "list", "-m", "-json", "all"], {
      settings: (home) => ({
        workFiles: { "go.mod": goMod },
        variables: {
          ...planningVariables(relay.address),
          ...{ GOPATH: join(home, "go"), GOCACHE: join(home, "cache") },
        },
      }),
    });
    if (evidence.outcome !== "ok") {
      if (relay.failure?.error instanceof AegisError) throw noGraph(relay.failure.error.message);
      throw noGraph(whyFailed(evidence, stderr.replaceAll(relay.address, "<proxy>")));
    }
    const list = readList(stdout);
    const graph = relay.served.flatMap((path) => {
      const [, module, version] = /^(.+)\/@v\/([^/]+)\.mod$/.exec(path) ?? [];
      return module === undefined || version === undefined
        ? []
        : [{ path: unescapeGo(module), version: unescapeGo(version) }];
    });
    if (list.size > MAX_MODULES || graph.length > MAX_MODULES)
      throw noGraph(`its module graph has more than ${MAX_MODULES} modules`);
    return { list, graph };
  } finally {
    await relay.close();
  }
}

function whyFailed({ outcome }: CommandEvidence, stderr: string): string {
  if (outcome === "missing") return "go is not installed, and plans its modules: install golang-go";
  const said = stderr
    .split("\n")
    .filter((line) => line.trim() !== "" && !/^go: (?:downloading|finding) /.test(line))
    .join(" ")
    .replace(/\s+/g, " ");
  const local = /GOTOOLCHAIN=local|invalid go version|unknown directive: toolchain/.test(said);
  const hint = local ? "; this host's go is too old for it, and no other is downloaded" : "";
  return `go list ended with ${outcome}: ${said.slice(0, 800)}${hint}`;
}

function readList(stdout: string): Map<string, Listed> {
  const list = new Map<string, Listed>();
  for (const text of stdout.split(/^(?=\{$)/m).filter((part) => part.trim() !== "")) {
    const one = v.parse(Module, parseJson(text));
    if (one.Main === true) continue;
    if (one.Version === undefined || one.Error !== undefined || one.Replace !== undefined)
      throw noGraph(`go list says of ${one.Path}: ${one.Error?.Err ?? "no plain version"}`);
    list.set(one.Path, { path: one.Path, version: one.Version, time: one.Time ?? null });
  }
  return list;
}

function noGraph(why: string): AegisError {
  return new AegisError("unavailable", why);
}
