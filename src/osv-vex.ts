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
  return ({ names: packages, osvVersion }, names) => {
    const about = packages.flatMap((name) => [...(byProduct.get(`${type}/${name}@${osvVersion}`) ?? [])]);
    const found = names.map((name) => inForce(about.filter((one) => one.vulnerabilities.includes(name))));
    const stated = found.filter((one) => one !== undefined);
    if (stated.length < names.length) return undefined;
    const [least] = stated.sort(
      (a, b) => HOPE.indexOf(a.status) - HOPE.indexOf(b.status) || Number(a.authentic) - Number(b.authentic),
    );
    if (least === undefined) return undefined;
    const { status, justification, author, authentic } = least;
    return { status, justification, author, authentic };
  };
}

/** The statement that counts: the distribution's own before another's, then the newest, then the least hopeful. */
function inForce(statements: readonly VexStatement[]): VexStatement | undefined {
  const [first] = statements.toSorted(
    (a, b) =>
      Number(b.authentic) - Number(a.authentic) ||
      timeOf(b) - timeOf(a) ||
      HOPE.indexOf(a.status) - HOPE.indexOf(b.status),
  );
  return first;
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
