import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import { loadEcosystem } from "../src/eco-load.ts";
import type { Planning } from "../src/eco-planning.ts";
import { withVulnerabilities } from "../src/osv.ts";
import { readBytes, readText } from "../src/sys-files.ts";
import { entry, upgrade } from "./policy-plans.ts";
import { fakeRegistry } from "./registry-kit.ts";

/*
 * Looks up the vulnerabilities of a transaction as the planner does, in real directories and on real servers.
 */

export const FIXTURES = join(import.meta.dir, "fixtures/osv");
export const NOW = new Date("2026-11-22T01:02:03.004Z");

/** `debian 12`, or another host. */
export function planning(env: Planning["env"], os = "debian 12"): Planning {
  const [os_id = "", os_version = ""] = os.split(" ");
  return {
    now: NOW,
    env,
    host: { hostname: "h", machine_id_hash: "0".repeat(64), os_id, os_version, architecture: "amd64" },
    run: () => Promise.reject(new Error("no command is run for this")),
    ...fakeRegistry({}),
    readText,
    readBytes,
    list(path) {
      try {
        return readdirSync(path).sort();
      } catch {
        return [];
      }
    },
    hasProgram: () => true,
    digestOf: () => null,
    contentOf: () => Promise.resolve(null),
    temporary: () => "/nonexistent",
  };
}

/** One upgraded source package with a binary package of another name. */
export function change(source: string, from: string | null, to: string | null) {
  const action = from === null ? "install" : to === null ? "remove" : "upgrade";
  return entry(`${source}-bin`, { source, action, from_version: from, to_version: to });
}

/** The plan with the vulnerabilities found for its transaction. */
export async function look(
  world: Planning,
  transaction: OperationPlan["transaction"],
  tool: OperationPlan["tool"] = "apt",
): Promise<OperationPlan> {
  const plan = upgrade({ tool, transaction });
  return { ...plan, ...(await withVulnerabilities(await loadEcosystem(tool), plan, world)) };
}

/** Evidence in one line each: `new 1.0-2 CVE-1 high fixed 1.0-3`; `both` where the old version has it too. */
export function lines(plan: OperationPlan): string[] {
  return plan.vulnerability_evidence.map(
    (e) =>
      `${e.also_old === true ? "both" : e.applies_to} ${e.package} ${e.version} ${e.id} ${e.severity}${e.fixed_version === null ? "" : ` fixed ${e.fixed_version}`}`,
  );
}
