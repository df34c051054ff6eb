import { readlinkSync } from "node:fs";
import { join } from "node:path";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { rebootAhead } from "./apt-reboot.ts";
import type { Outlook } from "./doc-outlook.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { Planning } from "./eco-planning.ts";
import type { ProcessLook, UnitFiles } from "./sys-processes.ts";
import { riskOf } from "./sys-unit-risk.ts";

/*
 * Which running units execute files of packages that a transaction replaces or removes, by dpkg's file lists (dpkg-query(1), --listfiles)
 * of those packages alone.
 */

const INFO = "/var/lib/dpkg/info";
const DIVERSIONS = "/var/lib/dpkg/diversions";
/** Directories that are links into /usr on a merged system, so that a file has two names. */
const MERGED = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/** The part of the host that is read: texts, null for what can't be, and where symbolic links lead. */
export interface ListedFiles {
  readText(path: string): string | null;
  /** Null for what is no symbolic link. */
  readLink(path: string): string | null;
}

type Services = NonNullable<Outlook["services"]>;
type Changed = Pick<TransactionEntry, "name" | "architecture" | "action">;

/** Where symbolic links lead on this host. */
export function hostLink(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

/** The file lists of the packages whose present files a transaction replaces or removes. */
export class ReplacedFiles {
  readonly #lists: readonly { name: string; text: string }[];
  readonly #merged: readonly string[];
  /** Diverted path → whose file of that name stays, and where the others' went (dpkg-divert(1)). */
  readonly #diverted = new Map<string, { to: string; by: string }>();

  constructor(transaction: readonly Changed[], host: ListedFiles) {
    this.#lists = transaction
      .filter(({ action }) => action !== "install" && action !== "configure")
      .map(({ name, architecture }) => {
        // Of packages that can be installed for several architectures at once, each has a list of its own.
        const own = host.readText(join(INFO, `${name}:${architecture}.list`));
        return { name, text: own ?? host.readText(join(INFO, `${name}.list`)) ?? "" };
      });
    this.#merged = MERGED.filter((name) => /^\/?usr\/\w+$/.test(host.readLink(`/${name}`) ?? ""));
    const lines = this.#lists.length === 0 ? [] : (host.readText(DIVERSIONS) ?? "").split("\n");
    for (let n = 0; n + 2 < lines.length; n += 3)
      this.#diverted.set(this.#real(lines[n] ?? ""), { to: lines[n + 1] ?? "", by: lines[n + 2] ?? "" });
  }

  /** The name of a file without links: /usr/lib/x for /lib/x where /lib leads to /usr/lib. */
  #real(path: string): string {
    return this.#merged.some((name) => path.startsWith(`/${name}/`)) ? `/usr${path}` : path;
  }

  /** Those of the files that belong to these packages, with the packages' names. */
  ownersOf(paths: Iterable<string>): Map<string, Set<string>> {
    const wanted = new Map([...paths].map((path) => [this.#real(path), path]));
    const owners = new Map<string, Set<string>>();
    if (wanted.size === 0) return owners;
    for (const { name, text } of this.#lists) {
      for (const line of text.split("\n")) {
        const real = this.#real(line);
        const diversion = this.#diverted.get(real);
        const there = diversion === undefined || diversion.by === name ? real : this.#real(diversion.to);
        const path = wanted.get(there);
        if (path !== undefined) owners.set(path, (owners.get(path) ?? new Set()).add(name));
      }
    }
    return owners;
  }
}

const MOST_UNITS = 1000;
const MOST_PACKAGES = 256;

/** The units that execute files of those packages, by what `filesOf` picks of each unit. */
export function unitsUsing(
  replaced: ReplacedFiles,
  units: readonly UnitFiles[],
  filesOf: (unit: UnitFiles) => readonly string[],
): Services["units"] {
  const used = units.filter(({ unit }) => !isPassing(unit)).map((unit) => ({ unit, files: filesOf(unit) }));
  const owners = replaced.ownersOf(new Set(used.flatMap(({ files }) => files)));
  return used
    .flatMap(({ unit: { unit }, files }) => {
      const packages = new Set(files.flatMap((file) => [...(owners.get(file) ?? [])]));
      if (packages.size === 0) return [];
      return [{ unit, packages: [...packages].sort().slice(0, MOST_PACKAGES), risky: riskOf(unit) }];
    })
    .slice(0, MOST_UNITS);
}

/** Processes of Aegis that make or run a plan; they end by themselves. */
function isPassing(unit: string): boolean {
  return /^aegis-(?:runner|recover|build|unpack|fetch|processes|monitor)\b/.test(unit);
}

/** What a plan says of running units: those that execute files of its packages, old or not. */
export function servicesAhead(
  transaction: readonly Changed[],
  look: ProcessLook & { seen_at: string },
  host: ListedFiles,
): Services {
  const replaced = new ReplacedFiles(transaction, host);
  const units = unitsUsing(replaced, look.units, ({ files, old }) => [
    ...files,
    ...old.map(({ path }) => path),
  ]);
  return { units, seen_at: look.seen_at, unseen: look.unseen };
}

/** What a plan says of running units and of a reboot: nothing if nothing changes, or nobody looked. */
export function servicesOutlook(
  transaction: readonly TransactionEntry[],
  installed: ReadonlyMap<string, DpkgPackage>,
  running: (ProcessLook & { seen_at: string }) | undefined,
  { readText }: Pick<Planning, "readText">,
): Pick<Outlook, "services" | "reboot"> {
  if (running === undefined || transaction.length === 0) return {};
  const services = servicesAhead(transaction, running, { readText, readLink: hostLink });
  return { services, reboot: { reasons: rebootAhead(transaction, services.units, installed, { readText }) } };
}
