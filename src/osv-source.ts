import { isAbsolute, join } from "node:path";
import type { Grammar, OsvEcosystem } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { readOsvDirectory } from "./osv-directory.ts";
import { indexFile } from "./osv-index.ts";
import type { OsvData } from "./osv-record.ts";
import type { OsvSubject } from "./osv-subjects.ts";
import { SYSTEM } from "./paths.ts";

/*
 * Where the records come from: what is set by hand, else the host's own data.
 */

/** What a look-up needs of planning. */
export type Lookup = Pick<Planning, "env" | "host" | "now" | "readText" | "readBytes" | "list" | "feeds">;

export interface OsvSource {
  /** For messages and the plan; without credentials. */
  name: string;
  read(subjects: readonly OsvSubject[], ecosystem: OsvEcosystem): Promise<OsvData>;
}

/** Why nothing is known, and what to do about it. */
export const NO_SOURCE =
  "this host has no vulnerability data (as root: aegis daemon install --feeds), and neither AEGIS_OSV_DIR nor AEGIS_OSV_URL is set.";

export function sourceOf(lookup: Lookup, ecosystem: OsvEcosystem | null): OsvSource | null {
  const { env, now, list, feeds } = lookup;
  const directory = env.AEGIS_OSV_DIR ?? "";
  if (directory !== "") {
    return {
      name: nameable(directory),
      async read(subjects, within) {
        if (!isAbsolute(directory)) throw new Error("AEGIS_OSV_DIR is not an absolute path");
        const names = new Set(subjects.flatMap((subject) => subject.names));
        return readOsvDirectory(directory, within, names, lookup);
      },
    };
  }
  const address = env.AEGIS_OSV_URL ?? "";
  if (address === "")
    return ecosystem === null ? null : feedsOf(feeds ?? SYSTEM.feeds, ecosystem, { now, list });
  const url = URL.canParse(address) ? new URL(address) : null;
  return {
    name: url === null ? "AEGIS_OSV_URL" : nameable(url.origin + url.pathname),
    async read(subjects) {
      const [{ queryOsvApi }, { isProtected }] = await Promise.all([
        import("./osv-api.ts"),
        import("./sys-fetch.ts"),
      ]);
      if (url === null || !isProtected(url)) throw new Error("AEGIS_OSV_URL is not an https: address");
      if (url.username !== "" || url.password !== "" || url.search !== "") {
        throw new Error("AEGIS_OSV_URL must have no credentials and no query");
      }
      return queryOsvApi(url, subjects);
    },
  };
}

/** This host's own data; null where there is none of the ecosystem. */
function feedsOf(
  directory: string,
  { base }: OsvEcosystem,
  { now, list }: Pick<Planning, "now" | "list">,
): OsvSource | null {
  const file = indexFile(`osv-${base}`);
  if (!list(directory).includes(file)) return null;
  return {
    name: join(directory, file),
    async read(subjects, ecosystem) {
      const { readFeeds } = await import("./osv-indexed.ts");
      return readFeeds(directory, ecosystem, subjects, now);
    },
  };
}

/** A text that fits a message. */
export function nameable(text: string): string {
  return text.slice(0, 1024).toWellFormed();
}

/** Whether there is a source that says what is known, of whatever ecosystem. */
export function hasOsvSource({ env, list, feeds }: Pick<Lookup, "env" | "list" | "feeds">): boolean {
  const { AEGIS_OSV_DIR: directory = "", AEGIS_OSV_URL: url = "" } = env;
  return (
    directory !== "" || url !== "" || list(feeds ?? SYSTEM.feeds).some((name) => name.startsWith("osv-"))
  );
}

/** The same of one ecosystem's packages. */
export function hasOsvSourceFor(grammar: Grammar, lookup: Lookup): boolean {
  return sourceOf(lookup, grammar.osv(lookup.host)) !== null;
}
