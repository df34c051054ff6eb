import { readdirSync } from "node:fs";
import { join } from "node:path";
import { aliasClashes, newClashes } from "./apt-aliased.ts";
import { isMarkOperation } from "./apt-argv.ts";
import { readDpkgStatus } from "./apt-dpkg.ts";
import { dpkgAudit } from "./apt-dpkg-audit.ts";
import { RUN_FILES, readReceipt } from "./apt-hook-receipt.ts";
import { sealIndexes } from "./apt-indexes.ts";
import { isKept, keepPackages } from "./apt-kept.ts";
import { inverseOf, isChecked, postCheck, snapshotOf, withoutLeftovers } from "./apt-outcome.ts";
import { watchProcesses } from "./apt-processes.ts";
import { refuseUnfinishedDpkg, waitForDpkg } from "./apt-ready.ts";
import { APT_CONF, downloadLimit, parseStatusLine, prepareAptRun, restoreMarks } from "./apt-run.ts";
import { aptDirs } from "./apt-sources.ts";
import { REPAIR } from "./apt-state.ts";
import { isFetched, isMark } from "./doc-plan.ts";
import { recentResults } from "./doc-result.ts";
import type { HostState, RunAdvice, RunDriver } from "./eco-driver.ts";
import { HOST_SETTINGS } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { createFileExclusive, readText } from "./sys-files.ts";
import { processesWith } from "./sys-process.ts";

/** Content of the decision file of a run that was stopped before dpkg began. */
const STOPPED = "stopped";
/** What undoes so many of the newest executions is kept, whatever else has to go. */
const UNDONE = 10;
/** Limit on the unfinished packages listed. */
const NAMED = 10;

/**
 * apt-get(8), and dpkg(1) for a repair, as root. A dpkg that has started is never stopped: apt's hook, called before
 * unpacking, and a runner that wants to stop the download compete to create one file.
 */
export const aptDriver: RunDriver = {
  user: "root",
  roots: ["/etc", "/usr", "/var/lib/dpkg"],

  /** The package indexes. An update replaces them; a repair and holds are planned without them. */
  async hold({ operation, transaction }, planning) {
    if (operation === "update" || operation === "repair" || isMarkOperation(operation)) return null;
    const { stdout } = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
    const sources = new Set(transaction.filter((entry) => !isKept(entry)).flatMap((entry) => entry.sources));
    return sealIndexes(aptDirs(stdout).lists, [...sources]);
  },

  /** apt-get waits for dpkg's lock itself; dpkg, which apt-mark runs too, doesn't. */
  async ready(plan, wait) {
    const isMarking = plan.transaction.some(isMark);
    if (plan.operation !== "repair" && !isMarking) return refuseUnfinishedDpkg(plan, dpkgNow());
    await waitForDpkg(() => {
      wait.stop();
      wait.alive();
    });
  },

  prepare: prepareAptRun,
  observe: dpkgNow,
  progress: parseStatusLine,
  mayStop: (directory) => createFileExclusive(join(directory, RUN_FILES.decision), STOPPED),
  wasStopped: (directory) =>
    readText(join(directory, RUN_FILES.decision)) === STOPPED ? "before dpkg began" : null,
  limitMs: downloadLimit,

  // By name too: a service started by a maintainer script inherits the environment and may live forever.
  isAlive: (directory) =>
    processesWith("APT_CONFIG", join(directory, APT_CONF), ["apt-get", "apt-mark", "dpkg"]).length > 0,

  restore: restoreMarks,

  witness(directory, { argv, transaction }) {
    const hook = readReceipt(directory);
    if (hook?.ok === false) {
      return { verdict: "refused", code: "hook_refused", reason: `refused before unpacking: ${hook.reason}` };
    }
    if (hook !== null) return { verdict: "vouched" };
    if (!isChecked(argv, transaction)) return { verdict: "not_needed" };
    return {
      verdict: "absent",
      reason: "apt succeeded but never called the hook that checks the packages",
    };
  },

  keep(ended, transaction, archives) {
    const installed = Object.entries(withoutLeftovers(dpkgNow())).map(
      ([key, state]) => [key, state.split(" ")[0] ?? ""] as const,
    );
    const recent = [ended, ...recentResults(UNDONE)];
    return keepPackages(transaction, archives, { recent, installed: new Map(installed) });
  },

  compare({ argv, transaction }, before, after) {
    const states = [before, after] as const;
    // Only a purge is about what is left of a package.
    const [old, now] = argv[1] === "purge" ? states : [withoutLeftovers(before), withoutLeftovers(after)];
    return { ...postCheck(transaction, old, now), inverse: inverseOf(transaction, old, now) };
  },

  /** dpkg compares names, and a file may have two: /bin/true and /usr/bin/true. */
  watchBesides(transaction) {
    const names = new Set(transaction.filter(isFetched).map(({ name }) => name));
    const before = aliasClashes(names);
    return () => [
      { what: "files of other packages were overwritten", items: newClashes(before, aliasClashes(names)) },
    ];
  },

  watchRunning: watchProcesses,
  advice,
};

/**
 * dpkg's current packages.
 * @throws AegisError `io`
 */
function dpkgNow(): HostState {
  const status = readDpkgStatus("/var/lib/dpkg/status", { readText, list: (path) => readdirSync(path) });
  if (status === null) throw new AegisError("io", "can't read /var/lib/dpkg/status");
  return snapshotOf(status.packages);
}

async function advice(): Promise<RunAdvice> {
  const { text, packages } = await dpkgAudit();
  const more = packages.length > NAMED ? ` and ${packages.length - NAMED} more` : "";
  const names = `${packages.slice(0, NAMED).join(", ")}${more}`;
  return {
    // If dpkg --audit itself failed, nothing is known to be unfinished; its output is logged.
    text: packages.length === 0 ? "" : `dpkg has unfinished packages: ${names}; to finish them: ${REPAIR}`,
    facts: { dpkg_audit: text },
  };
}
