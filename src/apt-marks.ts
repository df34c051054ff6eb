import { aptName } from "./apt-argv.ts";
import { readStanzas } from "./apt-deb822.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { RUNNING_KERNEL } from "./doc-evidence.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";

/*
 * Packages that came as dependencies (apt-mark(8), `auto`), by apt's own record, and what `apt-get autoremove` does with them.
 */

/**
 * The packages in apt's extended states that are marked as automatically installed, as `name:architecture`; apt writes the host's
 * architecture for `all`. Null for text that apt could read differently.
 */
export function parseAutoMarks(text: string): Set<string> | null {
  const { stanzas, problem } = readStanzas(text);
  if (problem !== null) return null;
  return new Set(
    stanzas.flatMap((stanza) =>
      stanza.get("auto-installed") === "1" ? [`${stanza.get("package")}:${stanza.get("architecture")}`] : [],
    ),
  );
}

/** A package's key in {@link parseAutoMarks}. */
export function markKey(
  { name, architecture }: { name: string; architecture: string },
  native: string,
): string {
  return `${name}:${architecture === "all" ? native : architecture}`;
}

/** Why an autoremove can't be what it says: it takes what somebody installed by name, or apt's marks can't be read. */
export function refuseManual(
  transaction: readonly TransactionEntry[],
  extendedStates: string | null,
  native: string,
): string[] {
  const marks = extendedStates === null ? null : parseAutoMarks(extendedStates);
  if (marks === null)
    return transaction.length === 0 ? [] : ["apt's record of automatically installed packages can't be read"];
  return transaction
    .filter((entry) => entry.action === "remove" && !marks.has(markKey(entry, native)))
    .map(({ name }) => `autoremove would remove ${name}, which isn't marked as automatically installed`);
}

/** Kernels, as Debian and Ubuntu name their packages; the version begins with a digit. */
const KERNEL_IMAGE = /^linux-image-(?:unsigned-)?\d/;

/** A warning that names the installed kernels that an autoremove leaves: apt keeps the running one and the newest. */
export function keptKernels(
  transaction: readonly TransactionEntry[],
  installed: ReadonlyMap<string, DpkgPackage>,
  release: string,
  native: string,
): string[] {
  const gone = new Set(transaction.map(({ name, architecture }) => `${name}:${architecture}`));
  const kept = [...installed]
    .filter(([key, { name, state }]) => KERNEL_IMAGE.test(name) && state === "installed" && !gone.has(key))
    .map(
      ([, { name, architecture }]) =>
        `${aptName(name, architecture, native)}${isOfKernel(name, release) ? " (running)" : ""}`,
    )
    .sort();
  return kept.length === 0 ? [] : [`kernels that stay: ${kept.join(", ")}`];
}

/** Removed packages that belong to the running kernel, whose release is in /proc/sys/kernel/osrelease (proc(5)). */
export function runningKernelEvidence(
  transaction: readonly TransactionEntry[],
  release: string,
): ProvenanceEvidence[] {
  return transaction
    .filter(({ name, action }) => action === "remove" && isOfKernel(name, release))
    .map(({ name, architecture }) => ({
      kind: RUNNING_KERNEL,
      subject: `${name}:${architecture}`,
      verified: true,
      key: null,
      detail: release,
    }));
}

/** Image and modules of a kernel, in which its release stands at the end. */
function isOfKernel(name: string, release: string): boolean {
  return release !== "" && /^linux-(?:image|modules)-/.test(name) && name.endsWith(`-${release}`);
}
