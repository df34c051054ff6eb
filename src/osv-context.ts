import * as v from "valibot";
import { VEX_STATUSES } from "./doc-plan-evidence.ts";
import type { EpssScore, VexStatement } from "./osv-record.ts";

/*
 * What others publish about vulnerabilities besides OSV's records: CISA's catalog of exploited ones, FIRST's scores, VEX documents. All
 * of it is untrusted: malformed entries are left out, a malformed document is null.
 */

const CVE = /^CVE-\d{4}-\d{4,19}$/;
const DAY = /^\d{4}-\d{2}-\d{2}$/;
/** The catalog has about 1,500 entries, EPSS about 300,000, one VEX document of a kernel flaw about 3,000 products. */
const MAX_EXPLOITED = 100_000;
const MAX_PRODUCTS = 100_000;

const short = v.pipe(v.string(), v.maxLength(1024));
const Kev = v.object({
  catalogVersion: short,
  vulnerabilities: v.pipe(
    v.array(v.object({ cveID: short, dateAdded: short })),
    v.minLength(1),
    v.maxLength(MAX_EXPLOITED),
  ),
});

/** What a JSON file of others is, by its beginning; null for anything else, an OSV record for example. */
export function kindOf(text: string): "kev" | "vex" | null {
  const beginning = text.slice(0, 2000);
  if (beginning.includes('"https://openvex.dev/ns')) return "vex";
  return beginning.includes('"catalogVersion"') ? "kev" : null;
}

/**
 * CISA's catalog: CVE → the day it was added; null for anything else. A catalog that names no vulnerability is none.
 * @see https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities_schema.json
 */
export function parseKev(tree: unknown): Map<string, string> | null {
  const parsed = v.safeParse(Kev, tree, { abortEarly: true });
  if (!parsed.success) return null;
  const rows = parsed.output.vulnerabilities.filter(
    ({ cveID, dateAdded }) => CVE.test(cveID) && DAY.test(dateAdded),
  );
  return rows.length === 0 ? null : new Map(rows.map(({ cveID, dateAdded }) => [cveID, dateAdded]));
}

const EPSS_HEADER = /^(?:#[^\n]*\n)?cve,epss,percentile\r?\n/;
const EPSS_ROW = /^(CVE-\d{4}-\d{4,19}),([01](?:\.\d{1,20})?),([01](?:\.\d{1,20})?)\r?$/gm;

/**
 * The scores of the `wanted` CVEs, or of all; null for anything but FIRST's CSV.
 * @see https://www.first.org/epss/data_stats
 */
export function parseEpss(text: string, wanted?: ReadonlySet<string>): Map<string, EpssScore> | null {
  if (!EPSS_HEADER.test(text)) return null;
  const scores = new Map<string, EpssScore>();
  for (const [, cve = "", score, percentile] of text.matchAll(EPSS_ROW)) {
    if (wanted !== undefined && !wanted.has(cve)) continue;
    const one = { score: Number(score), percentile: Number(percentile) };
    if (one.score <= 1 && one.percentile <= 1) scores.set(cve, one);
  }
  return scores;
}

const Named = v.union([
  v.pipe(
    short,
    v.transform((text) => ({ "@id": text })),
  ),
  v.object({ "@id": short }),
]);
const Statement = v.object({
  vulnerability: v.union([
    v.pipe(
      short,
      v.transform((name) => ({ name, "@id": "", aliases: [] })),
    ),
    v.object({
      name: v.optional(short, ""),
      "@id": v.optional(short, ""),
      aliases: v.optional(v.pipe(v.array(short), v.maxLength(256)), []),
    }),
  ]),
  products: v.optional(v.pipe(v.array(v.fallback(Named, { "@id": "" })), v.maxLength(MAX_PRODUCTS)), []),
  status: v.picklist(VEX_STATUSES),
  justification: v.nullish(short),
  impact_statement: v.nullish(v.string()),
  timestamp: v.nullish(short),
});
const Head = v.object({
  "@context": v.pipe(v.string(), v.startsWith("https://openvex.dev/ns")),
  author: short,
  timestamp: v.nullish(short),
});
const OpenVex = v.object({ statements: v.pipe(v.array(v.unknown()), v.maxLength(10_000)) });
/** Ubuntu puts what the specification has at the top into `metadata`. */
const Headed = v.object({ metadata: Head });

/**
 * The statements of an OpenVEX document; null for anything else. `source` is where it was found.
 * @see https://github.com/openvex/spec/blob/main/OPENVEX-SPEC.md
 */
export function parseVex(tree: unknown, source: string, authentic: boolean): VexStatement[] | null {
  const parsed = v.safeParse(OpenVex, tree, { abortEarly: true });
  const headed = v.safeParse(Headed, tree, { abortEarly: true });
  const head = headed.success ? headed.output.metadata : tree;
  const top = v.safeParse(Head, head, { abortEarly: true });
  if (!parsed.success || !top.success) return null;
  return parsed.output.statements.flatMap((one): VexStatement[] => {
    const statement = v.safeParse(Statement, one, { abortEarly: true });
    if (!statement.success) return [];
    const { vulnerability, products, status, justification, impact_statement, timestamp } = statement.output;
    const vulnerabilities = [
      ...namesIn(vulnerability.name),
      ...namesIn(vulnerability["@id"]),
      // An advisory among the aliases is about other vulnerabilities too.
      ...vulnerability.aliases.flatMap(namesIn).filter((name) => /^(?:CVE|GHSA)-/.test(name)),
    ];
    const named = products.map((product) => product["@id"]).filter((id) => id.startsWith("pkg:"));
    if (vulnerabilities.length === 0 || named.length === 0) return [];
    return [
      {
        vulnerabilities: [...new Set(vulnerabilities)],
        products: named,
        status,
        justification: justification ?? impact_statement?.slice(0, 1024).toWellFormed() ?? null,
        author: top.output.author,
        timestamp: timestamp ?? top.output.timestamp ?? null,
        source,
        authentic,
      },
    ];
  });
}

/** `CVE-2025-5994`, alone or at the end of an address; nothing for any other address. */
function namesIn(text: string): string[] {
  const last = /^https?:\/\/[^?#]*[/=]([^/?#=]+)$/.exec(text)?.[1] ?? text;
  return /^[A-Z][A-Z0-9]*-[A-Za-z0-9-]{4,64}$/.test(last) ? [last] : [];
}
