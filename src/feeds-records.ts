import * as v from "valibot";
import type { OsvEcosystem } from "./eco-grammar.ts";
import { parseVex } from "./osv-context.ts";
import type { IndexedStatements } from "./osv-indexed.ts";
import { judgeVersion } from "./osv-range.ts";
import { type OsvAffected, type OsvRecord, Ratings, toOsvRecord } from "./osv-record.ts";

/*
 * What an index keeps of a record: what evaluation reads, for one package and the host's release. A kernel flaw of Ubuntu has
 * 2 million characters and 100 packages; what one plan needs of it are a few hundred.
 */

/** What a host needs of the records of an ecosystem. */
export interface Wanted {
  ecosystem: Pick<OsvEcosystem, "base" | "versioning">;
  /** As OSV writes it: `12`, `24.04`; null for all. */
  release: string | null;
}

/** An index's record and the key it is found by. */
interface Entry {
  keys: readonly string[];
  text: string;
}

interface Reduced {
  entries: Entry[];
  /** The newest date in it, in milliseconds; NaN if unknown. */
  date: number;
}

const Raw = v.looseObject({
  id: v.string(),
  withdrawn: v.nullish(v.string()),
  affected: v.nullish(
    v.array(
      v.looseObject({
        package: v.nullish(
          v.looseObject({ ecosystem: v.string(), name: v.pipe(v.string(), v.minLength(1)) }),
        ),
      }),
    ),
    [],
  ),
});

/**
 * The parts of an OSV record about the host's packages, one for each; none for a withdrawn record and one about others. A record that
 * names a package and can't be read stays as what it is, for the look-up to say so.
 * @throws Error for text that names nothing: it may be about anything
 */
export function osvEntries(data: Buffer, wanted: Wanted): Reduced {
  const { base } = wanted.ecosystem;
  if (!mentions(data, wanted)) return { entries: [], date: Number.NaN };
  const tree: unknown = JSON.parse(data.toString("utf8"));
  const raw = v.safeParse(Raw, tree);
  if (!raw.success) throw new Error("it is not an OSV record");
  if (raw.output.withdrawn != null) return { entries: [], date: Number.NaN };
  const affected = raw.output.affected ?? [];
  const ours = affected.filter(({ package: it }) => it != null && isWanted(it.ecosystem, wanted));
  const byName = Map.groupBy(ours, ({ package: it }) => it?.name ?? "");
  const entries = [...byName].map(([name, its]): Entry => {
    const record = toOsvRecord({ ...raw.output, affected: its });
    const part = record === null ? { unreadable: base } : kept(record, wanted);
    return { keys: [name], text: JSON.stringify(part) };
  });
  const { modified } = raw.output;
  return { entries, date: typeof modified === "string" ? Date.parse(modified) : Number.NaN };
}

/** Whether the text can be about the release: a look at the bytes, which costs a fraction of parsing them. */
function mentions(data: Buffer, { ecosystem: { base }, release }: Wanted): boolean {
  return release === null || data.includes(`${release}`) || data.includes(`"${base}"`);
}

function isWanted(ecosystem: string, { ecosystem: { base }, release }: Wanted): boolean {
  if (ecosystem === base) return true;
  const [first, ...more] = ecosystem.split(":");
  return first === base && (release === null || more.includes(release));
}

function kept(record: OsvRecord, { ecosystem: { versioning } }: Wanted): OsvRecord {
  return {
    ...record,
    database_specific: ratings(record.database_specific),
    affected: record.affected.map((entry) => ({
      ...entry,
      versions: notInRanges(entry, versioning),
      ecosystem_specific: ratings(entry.ecosystem_specific),
      database_specific: ratings(entry.database_specific),
    })),
  };
}

/** Comparisons that a smaller index is worth. Real entries take some thousand; one of the largest that is read would take hours. */
const MOST_COMPARISONS = 1_000_000;

/** The versions that an entry lists and its ranges leave out: of most entries none, and it is most of their text. */
function notInRanges(entry: OsvAffected, versioning: OsvEcosystem["versioning"]): string[] {
  const ranges = entry.ranges.filter(({ type }) => type !== "GIT");
  const events = ranges.reduce((sum, range) => sum + range.events.length, 0);
  if (events === 0 || entry.versions.length * events > MOST_COMPARISONS) return entry.versions;
  const withoutList = [{ ...entry, versions: [] }];
  return entry.versions.filter((version) => !judgeVersion(withoutList, version, versioning).affected);
}

const Rated = v.object({ severity: Ratings });
const CvesMap = v.object({ cves: v.array(Rated) });

/** The words and numbers of a database's own field, which rate a record; not its lists and texts. */
function ratings(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, one]: [string, unknown]): [string, unknown][] => {
      const isShort = typeof one === "string" && one.length <= 64;
      if (isShort || typeof one === "number" || typeof one === "boolean") return [[name, one]];
      const map = name === "cves_map" ? v.safeParse(CvesMap, one) : null;
      return map?.success === true ? [[name, map.output]] : [];
    }),
  );
}

/**
 * What an OpenVEX document of Ubuntu says about the source packages of a release, by its code name.
 * @throws Error for anything else than such a document
 */
export function vexEntries(data: Buffer, codename: string): Reduced {
  const text = data.includes(`distro=`) && data.includes(codename) ? data.toString("utf8") : null;
  if (text === null) return { entries: [], date: Number.NaN };
  const statements = parseVex(JSON.parse(text), "", true);
  if (statements === null) throw new Error("it is not an OpenVEX document");
  const ours = statements.flatMap(({ source: _, authentic: __, ...statement }): IndexedStatements => {
    const products = statement.products.filter((purl) => isOfRelease(purl, codename));
    const { vulnerabilities, timestamp } = statement;
    const date = Date.parse(timestamp ?? "");
    const when = Number.isFinite(date) ? new Date(date).toISOString() : null;
    return products.length === 0
      ? []
      : [{ ...statement, vulnerabilities: [...vulnerabilities], products, timestamp: when }];
  });
  const dates = statements.map(({ timestamp }) => Date.parse(timestamp ?? "")).filter(Number.isFinite);
  const keys = new Set(ours.flatMap(({ vulnerabilities }) => vulnerabilities));
  const entries = ours.length === 0 ? [] : [{ keys: [...keys], text: JSON.stringify(ours) }];
  return { entries, date: dates.length === 0 ? Number.NaN : Math.max(...dates) };
}

/** `…?arch=source&distro=esm-apps/noble` is one of noble's. Binary packages are left out: their source has the same version. */
function isOfRelease(purl: string, codename: string): boolean {
  const qualifiers = new URLSearchParams(purl.split("?")[1] ?? "");
  const distro = qualifiers.get("distro") ?? "";
  return qualifiers.get("arch") === "source" && distro.split("/").at(-1) === codename;
}
