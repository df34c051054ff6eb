import { isMark, type TransactionEntry } from "./doc-plan.ts";
import type { OsvEcosystem, OsvName } from "./eco-grammar.ts";
import type { OsvAffected } from "./osv-record.ts";

/** A version of a package, in the plan's terms and in OSV's. */
export interface OsvSubject extends OsvName {
  package: string;
  version: string;
  appliesTo: "old" | "new";
}

/** Every version a transaction installs or removes, without duplicates: packages of one source version count once, as the first of them. */
export function subjectsOf(transaction: readonly TransactionEntry[], ecosystem: OsvEcosystem): OsvSubject[] {
  const subjects = new Map<string, OsvSubject>();
  for (const entry of transaction) {
    // Already installed; configuring it or putting it on hold doesn't add it.
    if (entry.action === "configure" || isMark(entry)) continue;
    const versions = { new: entry.to_version, old: entry.from_version };
    for (const appliesTo of ["new", "old"] as const) {
      const version = versions[appliesTo];
      if (version === null) continue;
      const named = ecosystem.nameOf(entry, version, appliesTo);
      const key = JSON.stringify([named.names, named.ecosystems, named.osvVersion, appliesTo]);
      if (!subjects.has(key)) subjects.set(key, { package: entry.name, version, appliesTo, ...named });
    }
  }
  return [...subjects.values()];
}

/** A record's entries for a subject, from the first of its ecosystems that has any. */
export function entriesFor(affected: readonly OsvAffected[], subject: OsvSubject): OsvAffected[] {
  const named = affected.filter(({ package: it }) => it != null && subject.names.includes(it.name));
  for (const ecosystem of subject.ecosystems) {
    const entries = named.filter(({ package: it }) => it != null && isWithin(it.ecosystem, ecosystem));
    if (entries.length > 0) return entries;
  }
  return [];
}

/** Whether both are the same release, ignoring LTS; an ecosystem without a release covers all of them. */
function isWithin(given: string, release: string): boolean {
  const plain = (text: string) => text.replace(/:LTS$/, "");
  return plain(given) === plain(release) || given === release.replace(/:.*$/, "");
}
