import { readdirSync } from "node:fs";
import { join } from "node:path";
import { aliasClashes, newClashes } from "./apt-aliased.ts";
import { readDpkgStatus } from "./apt-dpkg.ts";
import { dpkgAudit } from "./apt-dpkg-audit.ts";
import { RUN_FILES, readReceipt } from "./apt-hook-receipt.ts";
import { sealIndexes } from "./apt-indexes.ts";
import { inverseOf, isChecked, postCheck, snapshotOf } from "./apt-outcome.ts";
import { refuseUnfinishedDpkg, waitForDpkg } from "./apt-ready.ts";
import { APT_CONF, downloadLimit, parseStatusLine, prepareAptRun } from "./apt-run.ts";
import { aptDirs } from "./apt-sources.ts";
import { REPAIR } from "./apt-state.ts";
import { isFetched } from "./doc-plan.ts";
import type { HostState, RunAdvice, RunDriver } from "./eco-driver.ts";
import { HOST_SETTINGS } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { createFileExclusive, readText } from "./sys-files.ts";
import { processesWith } from "./sys-process.ts";

/** What the decision file says of a run that was ended before dpkg began. */
const STOPPED = "stopped";
/** Unfinished packages that are named. */
const NAMED = 10;

/**
 * apt-get(8), and dpkg(1) for a repair, as root. Nothing stops a dpkg that has begun: the hook, which apt calls before it
 * unpacks anything, and a runner that wants to end the download race for one file.
 */
export const aptDriver: RunDriver = {
  user: "root",
  roots: ["/etc", "/usr", "/var/lib/dpkg"],

  /** The package indexes. An update replaces them, and a repair is planned without any. */
  async hold({ operation, transaction }, planning) {
    if (operation === "update" || operation === "repair") return null;
    const { stdout } = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
    const sources = new Set(transaction.flatMap((entry) => entry.sources));
    return sealIndexes(aptDirs(stdout).lists, [...sources]);
  },

  /** apt waits for dpkg's lock by itself; dpkg doesn't. */
  async ready(plan, wait) {
    if (plan.operation !== "repair") return refuseUnfinishedDpkg(plan, dpkgNow());
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

  // By name too: a service that a maintainer script started inherits the environment, and may live for ever.
  isAlive: (directory) =>
    processesWith("APT_CONFIG", join(directory, APT_CONF), ["apt-get", "dpkg"]).length > 0,

  witness(directory, { argv, transaction }) {
    const hook = readReceipt(directory);
    if (hook?.ok === false) {
      return { verdict: "refused", code: "hook_refused", reason: `refused before unpacking: ${hook.reason}` };
    }
    if (hook !== null) return { verdict: "vouched" };
    if (!isChecked(argv, transaction)) return { verdict: "not_needed" };
    return {
      verdict: "absent",
      reason: "apt ended well but never called the hook that compares the packages",
    };
  },

  compare({ transaction }, before, after) {
    return { ...postCheck(transaction, before, after), inverse: inverseOf(transaction, before, after) };
  },

  /** dpkg compares names, and one file may have two: /bin/true and /usr/bin/true. */
  watchBesides(transaction) {
    const names = new Set(transaction.filter(isFetched).map(({ name }) => name));
    const before = aliasClashes(names);
    return () => [
      { what: "files of other packages were overwritten", items: newClashes(before, aliasClashes(names)) },
    ];
  },

  advice,
};

/**
 * dpkg's packages at this moment.
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
    // Where dpkg --audit itself failed nothing is known to be unfinished; the log has its words.
    text: packages.length === 0 ? "" : `dpkg has unfinished packages: ${names}; to finish them: ${REPAIR}`,
    facts: { dpkg_audit: text },
  };
}
