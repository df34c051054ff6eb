import { existsSync } from "node:fs";
import * as v from "valibot";
import { bindingOf } from "./apt-keyring.ts";
import { inspectRepositories, NO_INDEX } from "./apt-repositories.ts";
import { fileState } from "./apt-repository-write.ts";
import { aptDirs, readSources } from "./apt-sources.ts";
import { readEvents } from "./audit-read.ts";
import { sha256Hex } from "./canonical.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import { HOST_SETTINGS, type Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { readFileLimited } from "./sys-files.ts";
import { clip } from "./terminal.ts";

/*
 * What this host's apt is configured to trust, and how that changed between two runs. The date and digest of an index change
 * with every update, and are left out.
 */

const MAX_KEYRING = 16 * 1024 * 1024;
/** Executions that are read back. */
const REMEMBERED = 1000;
/** Longest value that an event quotes. */
const SHOWN = 300;

/** One source: each property as the text that is compared and shown. */
const Source = v.record(v.string(), v.string());
type Source = v.InferOutput<typeof Source>;
/** Every source by its id, `<uri> <suite>`. Parts of the configuration that can't be read are under the empty id. */
export const RepositoriesSchema = v.record(v.string(), Source);
export type RepositoryState = v.InferOutput<typeof RepositoriesSchema>;

/** One difference between two runs. */
export interface RepositoryChange {
  repository: string;
  change: "added" | "removed" | "changed";
  /** The property's name; null for the whole repository. */
  property: string | null;
  from: string | null;
  to: string | null;
}

/**
 * The sources, the keyrings and keys they are bound to, and the trust that follows; with the evidence and apt's directory of indexes.
 * @throws AegisError `unavailable` if apt can't report its configuration
 */
export async function repositoryState(
  planning: Planning,
): Promise<{ state: RepositoryState; evidence: RepositoryEvidence[]; lists: string }> {
  const dump = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
  if (dump.evidence.outcome !== "ok") throw new AegisError("unavailable", "apt-config dump failed");
  const dirs = aptDirs(dump.stdout);
  const { sources, problems } = readSources(dirs, planning.host.architecture, planning);
  const { evidence, warnings } = await inspectRepositories(sources, dirs, planning);
  const state: RepositoryState = {};
  for (const [n, source] of sources.entries()) {
    const found = evidence[n];
    if (found === undefined) continue;
    state[source.id] = {
      configured_in: source.configuredIn,
      components: source.components.join(" "),
      // An embedded key is long, and its digest is below.
      signed_by: found.signed_by ?? "",
      keyrings_sha256: keyringDigests(bindingOf(source, dirs, planning).keyrings).join(" "),
      trusted_option: String(source.trusted),
      allow_insecure: String(source.allowInsecure),
      key_fingerprints: found.key_fingerprints.toSorted().join(" "),
      trust: found.trust,
      problems: found.problems.join("; "),
    };
  }
  const unread = [...problems, ...warnings];
  if (unread.length > 0) state[""] = { problems: unread.join("; ") };
  return { state, evidence, lists: dirs.lists };
}

function keyringDigests(paths: readonly string[]): string[] {
  return paths
    .filter((path) => existsSync(path))
    .map((path) => sha256Hex(readFileLimited(path, MAX_KEYRING)))
    .sort();
}

/** What follows from a source's index: the rest is in its file. */
const OF_INDEX: readonly string[] = ["key_fingerprints", "trust", "problems"];

/**
 * How `now` differs from `before`, in the order of the sources' names. Left out is what an execution did, which has events of its
 * own: `executed` are the paths of files that are as one left them.
 */
export function repositoryDrift(
  before: RepositoryState,
  now: RepositoryState,
  executed: ReadonlySet<string> = new Set(),
): RepositoryChange[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].sort();
  return names.flatMap((repository) =>
    driftOf(repository, before, now).filter(({ property }) => {
      const [old, fresh] = [before[repository], now[repository]];
      const isExecuted = [old, fresh].every((source) => source === undefined || isIn(source, executed));
      // Its first index, after the update that follows.
      const isNew = property === null || !OF_INDEX.includes(property) || old?.problems?.startsWith(NO_INDEX);
      return !(isExecuted && isNew === true);
    }),
  );
}

function isIn({ configured_in = "" }: Source, files: ReadonlySet<string>): boolean {
  return files.has(configured_in.replace(/ stanza \d+$/, ""));
}

/**
 * The files of repositories that executions have changed since an event of this log, and that are as they left them.
 * @throws AegisError `io` if this user may not read the log, `log_tampered`
 */
export function executedFiles(dir: string, after: number | undefined): Set<string> {
  const kind = ["execution_completed", "execution_interrupted"] as const;
  const left = new Map<string, string | null>();
  for (const { details } of readEvents(dir, { kind, after, last: REMEMBERED })) {
    const found = v.safeParse(LeftFile, details?.repository_left);
    if (found.success) left.set(found.output.path, found.output.state);
  }
  return new Set([...left].filter(([path, state]) => fileState(path) === state).map(([path]) => path));
}

const LeftFile = v.object({ path: v.string(), state: v.nullable(v.string()) });

function driftOf(repository: string, before: RepositoryState, now: RepositoryState): RepositoryChange[] {
  const [old, fresh] = [before[repository], now[repository]];
  if (old === undefined && fresh !== undefined)
    return [{ repository, change: "added", property: null, from: null, to: summaryOf(fresh) }];
  if (old !== undefined && fresh === undefined)
    return [{ repository, change: "removed", property: null, from: summaryOf(old), to: null }];
  return [...new Set([...Object.keys(old ?? {}), ...Object.keys(fresh ?? {})])].flatMap((property) => {
    const [from, to] = [old?.[property] ?? "", fresh?.[property] ?? ""];
    if (from === to) return [];
    return [
      { repository, change: "changed", property, from: clip(from, SHOWN), to: clip(to, SHOWN) } as const,
    ];
  });
}

function summaryOf({ configured_in, trust, signed_by }: Source): string {
  return clip(
    `${trust ?? "not readable"}, configured in ${configured_in}, signed by ${signed_by || "any key"}`,
    SHOWN,
  );
}
