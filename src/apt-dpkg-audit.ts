import { readdirSync } from "node:fs";
import { readDpkgStatus } from "./apt-dpkg.ts";
import { REPAIR, SETTLED } from "./apt-state.ts";
import { type Finding, fail, ok } from "./finding.ts";
import { readText } from "./sys-files.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./sys-spawn.ts";

const STATUS = "/var/lib/dpkg/status";

/**
 * The output of `dpkg --audit`, bounded, empty if nothing is wrong, and the packages it names. It fails for ordinary
 * users as soon as there is anything to report; then the status file tells.
 */
export async function dpkgAudit(): Promise<{ text: string; packages: string[] }> {
  const dpkg = resolveProgram("dpkg");
  if (dpkg === null) return { text: "dpkg is not installed", packages: [] };
  const env = { LC_ALL: "C.UTF-8", PATH: SYSTEM_PATH.join(":") };
  const result = await run(dpkg, ["--audit"], { env, cwd: "/", timeoutMs: 60_000, maxBytes: 256 * 1024 });
  const text =
    result.outcome === "exited" && result.status === 0
      ? result.stdout.toString("utf8").trimEnd()
      : halfDone(result.stderr.toString("utf8"));
  // One line per package, starting with a space: ` name description`.
  const packages = [...text.matchAll(/^ (\S+)/gm)].flatMap(([, name]) => (name === undefined ? [] : [name]));
  return { text: text.slice(0, 4000), packages };
}

/** Packages between two states, one line each; if there are none, why the audit failed. */
function halfDone(why: string): string {
  const status = readDpkgStatus(STATUS, { readText, list: (path) => readdirSync(path) });
  const left = [...(status?.packages.values() ?? [])].filter(({ state }) => !SETTLED.includes(state));
  if (left.length === 0) return `dpkg --audit failed: ${why.trim()}`;
  return left.map(({ name, state }) => ` ${name} ${state}`).join("\n");
}

/** The audit as a finding of `aegis doctor`. */
export async function dpkgFindings(): Promise<Finding[]> {
  const { text, packages } = await dpkgAudit();
  if (text === "") return [ok("packages", "dpkg has no unfinished packages")];
  const what = packages.length === 0 ? text.split("\n")[0] : packages.join(", ");
  return [
    fail(
      "packages",
      `dpkg has unfinished packages: ${what}`,
      `apt refuses to run until they are finished. Plan that: ${REPAIR} (it runs dpkg --configure -a; see dpkg --audit)`,
    ),
  ];
}
