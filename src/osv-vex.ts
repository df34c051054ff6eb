import type { VulnerabilityEvidence } from "./doc-plan-evidence.ts";
import type { OsvEcosystem } from "./eco-grammar.ts";
import type { VexStatement } from "./osv-record.ts";
import type { OsvSubject } from "./osv-subjects.ts";

/* Which VEX statements are about a version of a package. */

type Vex = NonNullable<VulnerabilityEvidence["vex"]>;

/** The most hopeful last: of two statements equally old the other one counts. */
const HOPE = ["affected", "under_investigation", "fixed", "not_affected"] as const;

/** What is stated about one version: by vulnerability. */
type Stated = (subject: OsvSubject, names: readonly string[]) => Vex | undefined;

/**
 * The statements by version. A record about several vulnerabilities is covered only if each of them is, and then by the least hopeful
 * statement.
 *
 * A version is matched exactly: Debian's and Ubuntu's as that of a source package, which is one upload whatever release it is in.
 * Their binary packages have statements of their own, with the same content.
 */
export function statedAbout(
  statements: readonly VexStatement[],
  subjects: readonly OsvSubject[],
  { purl: type, purlQualifier: qualifier }: OsvEcosystem,
): Stated {
  if (statements.length === 0) return () => undefined;
  const wanted = new Set(subjects.flatMap(({ names }) => names.map((name) => `${type}/${name}`)));
  const byProduct = new Map<string, Set<VexStatement>>();
  for (const statement of statements) {
    for (const product of statement.products) {
      const found = productOf(product);
      if (found === null || !wanted.has(found.path)) continue;
      if (qualifier !== undefined && !found.qualifiers.includes(qualifier)) continue;
      const key = `${found.path}@${found.version}`;
      const about = byProduct.get(key);
      if (about === undefined) byProduct.set(key, new Set([statement]));
      else about.add(statement);
    }
  }
  // Subjects are asked about one after the other, each with all of its records.
  let last: { subject: OsvSubject; found: ReadonlyMap<string, VexStatement> } | null = null;
  return (subject, names) => {
    if (last?.subject !== subject) {
      const keys = subject.names.map((name) => `${type}/${name}@${subject.osvVersion}`);
      last = { subject, found: inForce(keys.flatMap((key) => [...(byProduct.get(key) ?? [])])) };
    }
    const { found } = last;
    const stated = names.flatMap((name) => found.get(name) ?? []);
    if (stated.length < names.length) return undefined;
    const [least] = stated.sort(
      (a, b) => HOPE.indexOf(a.status) - HOPE.indexOf(b.status) || Number(a.authentic) - Number(b.authentic),
    );
    if (least === undefined) return undefined;
    const { status, justification, author, authentic } = least;
    // JSON may spell half a character, which no plan can hold.
    return {
      status,
      justification: justification?.toWellFormed() ?? null,
      author: author.toWellFormed(),
      authentic,
    };
  };
}

/** By vulnerability, the statement that counts: the distribution's own before another's, then the newest, then the least hopeful. */
function inForce(statements: readonly VexStatement[]): Map<string, VexStatement> {
  const found = new Map<string, VexStatement>();
  for (const statement of statements) {
    for (const name of statement.vulnerabilities) {
      const other = found.get(name);
      if (other === undefined || isBefore(statement, other)) found.set(name, statement);
    }
  }
  return found;
}

function isBefore(a: VexStatement, b: VexStatement): boolean {
  const order =
    Number(b.authentic) - Number(a.authentic) ||
    timeOf(b) - timeOf(a) ||
    HOPE.indexOf(a.status) - HOPE.indexOf(b.status);
  return order < 0;
}

function timeOf({ timestamp }: VexStatement): number {
  const time = Date.parse(timestamp ?? "");
  return Number.isFinite(time) ? time : 0;
}

/** `pkg:deb/ubuntu/unbound@1.22.0-1ubuntu1?arch=source&distro=plucky`; null without a version, or if it isn't one. */
function productOf(purl: string): { path: string; version: string; qualifiers: string[] } | null {
  const [, path, version, qualifiers = ""] = /^pkg:([^@?#]+)@([^?#]+)(?:\?([^#]*))?/.exec(purl) ?? [];
  if (path === undefined || version === undefined) return null;
  try {
    return {
      path: path.split("/").map(decodeURIComponent).join("/"),
      version: decodeURIComponent(version),
      qualifiers: qualifiers.split("&"),
    };
  } catch {
    return null;
  }
}
