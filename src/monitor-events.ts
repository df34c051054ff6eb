import type { AuditKind, NewAuditEvent } from "./audit-event.ts";
import { canonicalHash } from "./canonical.ts";
import type { MonitorState } from "./monitor-state.ts";
import { type RepositoryState, repositoryDrift } from "./repository-drift.ts";
import { clip, plural } from "./terminal.ts";

/** What the monitor writes to the audit log. */
export const MONITOR_KINDS = [
  "unmanaged_change",
  "repository_drift",
  "monitor_findings",
  "monitor_baseline",
] as const satisfies readonly AuditKind[];

/** Texts that a list of an event holds, and their length; sources and their changes likewise. */
const LISTED = 10;
const LISTED_CHARS = 200;

/** What one look found. */
export type Present = Pick<MonitorState, "packages" | "repositories" | "findings">;

/** Says once that the present counts as known. `why` is the message; `as_last_seen` null where it can't be told. */
export function baselineEvent(
  why: string,
  { packages, repositories, findings }: Present,
  repositories_as_last_seen: boolean | null,
  problems: readonly string[],
): NewAuditEvent {
  return {
    kind: "monitor_baseline",
    details: {
      message: why,
      packages: Object.keys(packages).length,
      packages_sha256: canonicalHash(packages),
      repositories: bounded(Object.keys(repositories)),
      repositories_as_last_seen,
      findings: bounded(findings),
      not_looked_at: bounded(problems),
    },
  };
}

/** The event of how the repositories differ from what the last run saw, if they do. */
export function driftEvents(before: RepositoryState, now: RepositoryState): NewAuditEvent[] {
  const changes = repositoryDrift(before, now);
  if (changes.length === 0) return [];
  const names = [...new Set(changes.map(({ repository }) => repository))];
  const what = plural(names.length, "repository changed", "repositories changed");
  const how = changes.map(
    ({ repository, change, property }) => `${repository || "the configuration"} (${property ?? change})`,
  );
  return [
    {
      kind: "repository_drift",
      details: {
        message: `${what}: ${clip(how.join(", "), 300)}`,
        count: changes.length,
        changes: changes.slice(0, LISTED),
        changes_sha256: canonicalHash(changes),
      },
    },
  ];
}

/** The event of which findings are new and which are gone, if any are, and of what could not be looked at. */
export function findingsEvents(
  before: readonly string[],
  now: readonly string[],
  problems: readonly string[],
): NewAuditEvent[] {
  const fresh = now.filter((finding) => !before.includes(finding));
  const gone = before.filter((finding) => !now.includes(finding));
  const [first, ...more] = [...problems, ...fresh, ...gone.map((text) => `no longer: ${text}`)];
  if (first === undefined) return [];
  return [
    {
      kind: "monitor_findings",
      details: {
        message: more.length === 0 ? first : `${first}; and ${more.length} more`,
        new: bounded(fresh),
        gone: bounded(gone),
        not_looked_at: bounded(problems),
      },
    },
  ];
}

function bounded(texts: readonly string[]): string[] {
  const kept = texts.slice(0, LISTED).map((text) => clip(text, LISTED_CHARS));
  return kept.length === texts.length ? kept : [...kept, `and ${texts.length - kept.length} more`];
}
