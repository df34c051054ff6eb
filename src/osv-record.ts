import * as v from "valibot";

/*
 * An OSV record, as far as it is read. It comes from outside: what judging needs is checked and bounded, the rest (texts,
 * links, credits) is dropped.
 * @see https://ossf.github.io/osv-schema/
 */

/** A record that is larger, in characters, is not read. The largest real ones, kernel flaws in Ubuntu, have about 2 million. */
export const MAX_RECORD = 8 * 1024 * 1024;

const ID = /^[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}$/;
const MAX_ALIASES = 16;

const short = v.pipe(v.string(), v.maxLength(512));
/** Absent and null are an empty list: some writers put null. */
const list = <S extends v.GenericSchema>(item: S, max: number) =>
  v.nullish(v.pipe(v.array(item), v.maxLength(max)), []);

/** Ratings by one method each, a CVSS vector or a word; one that has another form says nothing. */
export const Ratings = v.fallback(list(v.fallback(v.object({ score: short }), { score: "" }), 64), []);

const Event = v.object({
  introduced: v.nullish(short),
  fixed: v.nullish(short),
  last_affected: v.nullish(short),
  limit: v.nullish(short),
});
export type OsvEvent = v.InferOutput<typeof Event>;

const Range = v.object({ type: short, events: list(Event, 5000) });
export type OsvRange = v.InferOutput<typeof Range>;

const Affected = v.object({
  package: v.nullish(v.object({ ecosystem: short, name: short })),
  severity: Ratings,
  ranges: list(Range, 500),
  versions: list(short, 50_000),
  ecosystem_specific: v.optional(v.unknown()),
  database_specific: v.optional(v.unknown()),
});
export type OsvAffected = v.InferOutput<typeof Affected>;

/** Ids, the first of them; anything else is passed over. */
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
  /** What a distribution's own record stands for: nearly always a CVE. */
  upstream: ids,
  severity: Ratings,
  affected: list(Affected, 5000),
  database_specific: v.optional(v.unknown()),
});
export type OsvRecord = v.InferOutput<typeof OsvRecord>;

/** Something that could not be read, so that nothing can be said of the packages it may be about. */
export interface OsvProblem {
  /** Names of packages in OSV's terms; null where it may be about any. */
  names: readonly string[] | null;
  what: string;
}

/** What a source of records gave. */
export interface OsvData {
  records: OsvRecord[];
  problems: OsvProblem[];
  /** Whole days since the newest record of the source was modified; null where nothing tells. */
  ageDays: number | null;
}

/** True for what may stand as the id of a record. */
export function isOsvId(value: unknown): value is string {
  return typeof value === "string" && ID.test(value);
}

/** A record from its parsed JSON, or null where it is none. */
export function toOsvRecord(tree: unknown): OsvRecord | null {
  const parsed = v.safeParse(OsvRecord, tree, { abortEarly: true });
  return parsed.success ? parsed.output : null;
}
