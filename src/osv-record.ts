import * as v from "valibot";
import type { VexStatus } from "./doc-plan-evidence.ts";

/*
 * The parts of an OSV record that are used. It is untrusted: what evaluation needs is checked and bounded, the rest
 * (texts, links, credits) is dropped.
 * @see https://ossf.github.io/osv-schema/
 */

/** Size limit of a record in characters. The largest real ones, kernel flaws in Ubuntu, have about 2 million. */
export const MAX_RECORD = 8 * 1024 * 1024;

const ID = /^[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}$/;
/** A kernel's advisory names several hundred. */
const MAX_ALIASES = 2000;

const MAX_SHORT = 512;
const short = v.pipe(v.string(), v.maxLength(MAX_SHORT));
/** Absent and null count as an empty list: some writers use null. */
const list = <S extends v.GenericSchema>(item: S, max: number) =>
  v.nullish(v.pipe(v.array(item), v.maxLength(max)), []);
/** Lengths of lists. */
const MAX = { ratings: 64, events: 5000, ranges: 500, versions: 50_000, affected: 5000 } as const;

/** One rating per method, a CVSS vector or a word; malformed ones are ignored. */
export const Ratings = v.fallback(
  list(v.fallback(v.object({ score: short }), { score: "" }), MAX.ratings),
  [],
);

const Event = v.object({
  introduced: v.nullish(short),
  fixed: v.nullish(short),
  last_affected: v.nullish(short),
  limit: v.nullish(short),
});
export type OsvEvent = v.InferOutput<typeof Event>;

const Range = v.object({ type: short, events: list(Event, MAX.events) });
export type OsvRange = v.InferOutput<typeof Range>;

const Affected = v.object({
  package: v.nullish(v.object({ ecosystem: short, name: short })),
  severity: Ratings,
  ranges: list(Range, MAX.ranges),
  versions: list(short, MAX.versions),
  ecosystem_specific: v.optional(v.unknown()),
  database_specific: v.optional(v.unknown()),
});
export type OsvAffected = v.InferOutput<typeof Affected>;

/** The first ids; anything else is ignored. */
const ids = v.optional(
  v.pipe(
    v.unknown(),
    v.transform((value) => (Array.isArray(value) ? value.filter(isOsvId).slice(0, MAX_ALIASES) : [])),
  ),
  [],
);

const OsvRecord = v.object({
  id: v.pipe(v.string(), v.regex(ID, "not an identifier")),
  modified: v.nullish(short),
  withdrawn: v.nullish(short),
  aliases: ids,
  /** What a distribution's record refers to: nearly always a CVE. */
  upstream: ids,
  severity: Ratings,
  affected: list(Affected, MAX.affected),
  database_specific: v.optional(v.unknown()),
});
export type OsvRecord = v.InferOutput<typeof OsvRecord>;

/** A read failure that leaves it open whether packages are affected. */
export interface OsvProblem {
  /** OSV's package names; null if it may concern any. */
  names: readonly string[] | null;
  what: string;
}

/** What a VEX document says about one vulnerability in some products (OpenVEX 0.2.0, "Statement"). */
export interface VexStatement {
  /** Every name of the vulnerability: `CVE-2025-5994`. */
  vulnerabilities: readonly string[];
  /** Package URLs: `pkg:deb/ubuntu/unbound@1.22.0-1ubuntu1?arch=source&distro=plucky`. */
  products: readonly string[];
  status: VexStatus;
  /** The word of the specification, or the author's sentence; null if there is neither. */
  justification: string | null;
  author: string;
  /** RFC 3339; null if unknown. */
  timestamp: string | null;
  /** Where the document was found: a file or an address. */
  source: string;
  /**
   * Whether it comes from who builds the package: downloaded from the distribution's own host. From a directory it may be
   * anybody's, and is only shown.
   */
  authentic: boolean;
}

/** How likely a vulnerability is exploited within 30 days, both 0–1 (FIRST's EPSS). */
export interface EpssScore {
  score: number;
  /** The share of all vulnerabilities that score the same or less. */
  percentile: number;
}

/** Data from a source of records. */
export interface OsvData {
  records: OsvRecord[];
  problems: OsvProblem[];
  /** Whole days since the source's newest record was modified; null if unknown. */
  ageDays: number | null;
  /** CVE → the day CISA added it to its catalog of exploited vulnerabilities, as YYYY-MM-DD. */
  exploited?: ReadonlyMap<string, string>;
  /** By CVE. */
  epss?: ReadonlyMap<string, EpssScore>;
  vex?: readonly VexStatement[];
  /** What else could not be read, in words: it makes nothing look clean. */
  notes?: readonly string[];
}

/** Whether a value can be a record id. */
export function isOsvId(value: unknown): value is string {
  return typeof value === "string" && ID.test(value);
}

/** A record from parsed JSON; null if invalid. */
export function toOsvRecord(tree: unknown): OsvRecord | null {
  const parsed = v.safeParse(OsvRecord, tree, { abortEarly: true });
  return parsed.success ? parsed.output : null;
}

/**
 * A record as {@link toOsvRecord} returned it and JSON kept it; null if it isn't one. For a look-up that reads thousands, this takes a
 * tenth of the time; fields that a record doesn't have stay.
 */
export function toStoredRecord(tree: unknown): OsvRecord | null {
  return isStoredRecord(tree) ? tree : null;
}

type Fields = Readonly<Record<string, unknown>>;
const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null;
const isShort = (value: unknown) => typeof value === "string" && value.length <= MAX_SHORT;
const isShortIfAny = (value: unknown) => value == null || isShort(value);
const isListOf = (value: unknown, max: number, isItem: (item: unknown) => boolean) =>
  Array.isArray(value) && value.length <= max && value.every(isItem);

function isStoredRecord(tree: unknown): tree is OsvRecord {
  if (!isFields(tree) || !isOsvId(tree["id"])) return false;
  return (
    isShortIfAny(tree["modified"]) &&
    isShortIfAny(tree["withdrawn"]) &&
    isListOf(tree["aliases"], MAX_ALIASES, isOsvId) &&
    isListOf(tree["upstream"], MAX_ALIASES, isOsvId) &&
    isListOf(tree["severity"], MAX.ratings, isRating) &&
    isListOf(tree["affected"], MAX.affected, isAffected)
  );
}

const isRating = (value: unknown) => isFields(value) && isShort(value["score"]);

function isAffected(value: unknown): boolean {
  if (!isFields(value)) return false;
  const { package: named, severity, ranges, versions } = value;
  return (
    (named == null || (isFields(named) && isShort(named["ecosystem"]) && isShort(named["name"]))) &&
    isListOf(severity, MAX.ratings, isRating) &&
    isListOf(ranges, MAX.ranges, isRange) &&
    isListOf(versions, MAX.versions, isShort)
  );
}

function isRange(value: unknown): boolean {
  return isFields(value) && isShort(value["type"]) && isListOf(value["events"], MAX.events, isEvent);
}

function isEvent(value: unknown): boolean {
  if (!isFields(value)) return false;
  const { introduced, fixed, last_affected, limit } = value;
  return [introduced, fixed, last_affected, limit].every(isShortIfAny);
}
