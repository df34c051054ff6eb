import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { ArchiveFile } from "./eco-archive.ts";

/*
 * A package with everything it needs, resolved to single files: what npm, pip, Go and cargo have in common when they are planned.
 */

/** One package file of a closure, fetched and hashed. */
export interface ClosurePackage {
  name: string;
  version: string;
  /** `all`, or the dpkg architecture that the file is for. */
  architecture: string;
  url: URL;
  /** In lower-case hex. */
  sha256: string;
  /** Bytes. */
  size: number;
  /** The file's hash as the ecosystem writes it. */
  integrity: string;
  purl: string;
  /** As the package states it, or null. */
  license: string | null;
  /** RFC 3339 in UTC, or null where the registry doesn't tell. */
  publishedAt: string | null;
  /** `name version` of a package that needs it, or null for what was asked for. */
  requiredBy: string | null;
  /** What counts against it in comparison with earlier versions, and what installing has to know; see {@link TransactionEntry}. */
  facts?: Pick<TransactionEntry, "trust_downgrade" | "publisher_since" | "has_shrinkwrap">;
}

/**
 * The part of a plan that a closure makes, sorted by name and version. What the managed root holds now is root's to know: every
 * plan installs, so that everybody who plans gets the same.
 */
export function closureFindings(
  packages: readonly ClosurePackage[],
): Pick<OperationPlan, "transaction" | "sbom_evidence" | "transitive_dependency_count"> {
  const sorted = packages.toSorted((a, b) => order(a.name, b.name) || order(a.version, b.version));
  return {
    transaction: sorted.map(entryOf),
    sbom_evidence: sorted.map(({ purl, sha256 }) => ({ purl, sha256 })),
    transitive_dependency_count: sorted.filter(({ requiredBy }) => requiredBy !== null).length,
  };
}

function entryOf(one: ClosurePackage): TransactionEntry {
  const { name, version, architecture, url, sha256, size, integrity, purl, license } = one;
  return {
    ...{ name, architecture, action: "install", from_version: null, to_version: version },
    ...{ origin: url.host, archive: null, sha256, size, essential: false },
    ...{ source: null, from_source: null, to_source: null, sources: [] },
    ...{ url: url.href, integrity, purl },
    ...(license === null ? {} : { license: license.slice(0, 1024) }),
    ...(one.publishedAt === null ? {} : { published_at: one.publishedAt }),
    ...(one.requiredBy === null ? {} : { required_by: one.requiredBy.slice(0, 1024) }),
    ...one.facts,
  };
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Why a package is in the closure, from what was asked for down to it: `flask 3.0.0 → jinja2 3.1.4`. `parents` gives, for each
 * `name version`, the one that needs it.
 */
export function requirementChain(subject: string, parents: ReadonlyMap<string, string | null>): string {
  const chain = [subject];
  for (let next = parents.get(subject) ?? null; next !== null && !chain.includes(next); ) {
    chain.unshift(next);
    next = parents.get(next) ?? null;
  }
  return chain.join(" → ");
}

/** The kinds of machine code by their first bytes: ELF, PE, Mach-O in its forms, `ar` archives, WebAssembly. */
const MACHINE_CODE: readonly (readonly [hex: string, kind: string])[] = [
  ["7f454c46", "ELF"],
  ["4d5a", "PE"],
  ["feedface", "Mach-O"],
  ["feedfacf", "Mach-O"],
  ["cefaedfe", "Mach-O"],
  ["cffaedfe", "Mach-O"],
  ["213c617263683e0a", "static library"],
  ["0061736d", "WebAssembly"],
];

/** What machine code a file is, by its first bytes; null for everything else. */
export function machineCode({ data }: Pick<ArchiveFile, "data">): string | null {
  const head = Buffer.from(data.subarray(0, 8)).toString("hex");
  return MACHINE_CODE.find(([magic]) => head.startsWith(magic))?.[1] ?? null;
}

/** The results of `make` in the order of `items`, at most `atOnce` of them being made; after the first failure none is begun. */
export async function inParallel<A, R>(
  items: readonly A[],
  atOnce: number,
  make: (item: A) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  let failed = false;
  const worker = async () => {
    for (const [i, item] of queue) {
      if (failed) return;
      try {
        results[i] = await make(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
