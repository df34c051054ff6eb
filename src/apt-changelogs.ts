import { join } from "node:path";
import { type ChangelogEntry, entriesBetween } from "./apt-changelog.ts";
import { parseRelease, splitClearSigned } from "./apt-release.ts";
import { aptDirs } from "./apt-sources.ts";
import { isDebVersion, isPackageName } from "./apt-target.ts";
import { listFileName } from "./apt-uri.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import { HOST_SETTINGS, type Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { isProtected, leadsHome } from "./sys-fetch.ts";

/*
 * What the new versions of a plan change, in the words of their changelogs, asked of the archive by GET. Where an archive has its
 * changelogs is as apt finds it (pkgAcqChangelog, apt-pkg/acquire-item.cc): settings, the Release file's own `Changelogs`, or a known
 * place.
 */

/** Changelogs of one source package. */
export interface PackageChangelog {
  source: string;
  /** Source versions. */
  from: string | null;
  to: string;
  packages: string[];
  url: string | null;
  entries: ChangelogEntry[];
  /** What could not be had, or is missing; null if the entries are all there are. */
  problem: string | null;
}

/** Sources asked at once, and in all. */
const AT_ONCE = 4;
export const MOST_CHANGELOGS = 60;
/** A kernel's is 3 MB. */
const MOST_BYTES = 16 * 1024 * 1024;
const MARK = "@CHANGEPATH@";

/** apt's own places, by the Release file's Origin. */
const KNOWN: ReadonlyMap<string, string> = new Map([
  ["Debian", `https://metadata.ftp-master.debian.org/changelogs/${MARK}_changelog`],
  ["Ubuntu", `https://changelogs.ubuntu.com/changelogs/pool/${MARK}/changelog`],
]);

/**
 * The changelogs of the packages that `entries` bring, one for each source package, in their order; at most
 * {@link MOST_CHANGELOGS}.
 */
export async function changelogsOf(
  plan: OperationPlan,
  entries: readonly TransactionEntry[],
  planning: Pick<Planning, "run" | "get" | "readText">,
): Promise<PackageChangelog[]> {
  const dump = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
  const setting = settingsIn(dump.stdout);
  const { lists } = aptDirs(dump.stdout);
  const sets = [
    ...Map.groupBy(entries.filter(isNew), ({ to_source, name }) => to_source?.name ?? name).values(),
  ];
  const waiting = sets.slice(0, MOST_CHANGELOGS).entries();
  const found: PackageChangelog[] = [];
  const one = async () => {
    // All take from one iterator.
    for (const [n, set] of waiting) found[n] = await changelogOf(set);
  };

  async function changelogOf(set: readonly TransactionEntry[]): Promise<PackageChangelog> {
    const [entry] = set;
    const to = entry?.to_source?.version ?? entry?.to_version ?? "";
    const changelog: PackageChangelog = {
      ...{
        source: entry?.to_source?.name ?? entry?.name ?? "",
        from: entry?.from_source?.version ?? entry?.from_version ?? null,
        to,
      },
      ...{ packages: set.map(({ name }) => name), url: null, entries: [], problem: null },
    };
    const { source, from } = changelog;
    if (!isPackageName(source) || !isDebVersion(to))
      return { ...changelog, problem: "no source package is known" };
    if (from === to) return { ...changelog, problem: "built again from the same source" };
    const places = (entry?.sources ?? []).flatMap((id) => {
      const evidence = plan.repository_evidence.find((known) => known.id === id);
      return evidence === undefined ? [] : addresses(evidence, source, to);
    });
    if (places.length === 0)
      return { ...changelog, problem: "its source says of no place where its changelogs are" };
    let problem = "";
    for (const url of places) {
      const proxy = proxyFor(url, setting);
      try {
        const answer = await planning.get(url, {
          maxBytes: MOST_BYTES,
          ...(proxy === null ? {} : { proxy }),
        });
        if (answer.status === 200) {
          const text = new TextDecoder().decode(answer.bytes);
          const between = entriesBetween(text, from, to);
          return {
            ...changelog,
            url: url.href,
            entries: between.entries,
            problem: missing(between, from, to),
          };
        }
        problem = `${url.host} answered with status ${answer.status}`;
      } catch (error) {
        if (!(error instanceof AegisError)) throw error;
        // The other addresses are of the same machine.
        return { ...changelog, url: url.href, problem: error.message };
      }
    }
    return { ...changelog, problem };
  }

  /** Where a source has the changelog of a version: one address for each component that it may be in. */
  function addresses(evidence: RepositoryEvidence, source: string, version: string): URL[] {
    const template = templateOf(evidence);
    if (template === null || !template.includes(MARK)) return [];
    const prefix = source.startsWith("lib") ? source.slice(0, 4) : source.slice(0, 1);
    const file = `${source}_${version.replace(/^\d+:/, "")}`;
    const path = [prefix, source, file].map(encoded).join("/");
    // Flat sources have no components.
    const paths =
      evidence.components.length === 0
        ? [path]
        : evidence.components.map((part) => `${encoded(part)}/${path}`);
    return paths.flatMap((one) => {
      const text = template.replaceAll(MARK, () => one);
      const url = URL.canParse(text) ? new URL(text) : null;
      const isHome = url !== null && URL.canParse(evidence.uri) && leadsHome(new URL(evidence.uri), url);
      return url === null || !isProtected(url) || isHome ? [] : [url];
    });
  }

  function templateOf({
    release_origin: origin,
    release_label: label,
    signature_verified,
    ...source
  }: RepositoryEvidence): string | null {
    const settled = (kind: string, name: string | null) =>
      name === null ? undefined : setting(`Acquire::Changelogs::URI::${kind}::${name}`);
    const template =
      settled("Override::Label", label) ??
      settled("Override::Origin", origin) ??
      (signature_verified ? statedBy(source) : undefined) ??
      settled("Label", label) ??
      settled("Origin", origin) ??
      KNOWN.get(origin ?? "") ??
      "no";
    return template === "no"
      ? null
      : template.replace(
          /^http:(?=\/\/(?:metadata\.ftp-master\.debian\.org|changelogs\.ubuntu\.com)\/)/,
          "https:",
        );
  }

  /** `Changelogs` of the Release file that apt has of a source. */
  function statedBy(source: Pick<RepositoryEvidence, "uri" | "suite">): string | undefined {
    const text = planning.readText(join(lists, listFileName(source, "InRelease")));
    const signed = text === null ? null : splitClearSigned(text);
    return (signed === null ? null : parseRelease(signed.text)?.changelogs) ?? undefined;
  }

  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return found;
}

function isNew({ action }: TransactionEntry): boolean {
  return action === "install" || action === "upgrade";
}

function missing(
  { entries, reached }: ReturnType<typeof entriesBetween>,
  from: string | null,
  to: string,
): string | null {
  if (entries.length === 0) return `it has no entry of ${to}`;
  return reached ? null : `it doesn't go back to ${from}`;
}

/** apt encodes `~` too. */
function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll("~", "%7e");
}

/** Settings of `apt-config dump` by name; apt's names have no case. */
function settingsIn(dump: string): (name: string) => string | undefined {
  const values = new Map<string, string>();
  for (const line of dump.split("\n")) {
    const [, key, value] = /^([^\s"]+) "([^"\n]*)";$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined && value !== "") values.set(key.toLowerCase(), value);
  }
  return (name) => values.get(name.toLowerCase());
}

/** The proxy that apt uses for a host (apt-transport-https(1), apt-transport-http(1)); null for none. */
function proxyFor({ hostname }: URL, setting: (name: string) => string | undefined): string | null {
  const found = ["https", "http"].flatMap((scheme) => [
    setting(`Acquire::${scheme}::Proxy::${hostname}`),
    setting(`Acquire::${scheme}::Proxy`),
  ]);
  const proxy = found.find((one) => one !== undefined);
  return proxy === undefined || proxy === "DIRECT" || proxy === "false" ? null : proxy;
}
