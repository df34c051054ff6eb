import * as v from "valibot";
import type { CommandEvidence } from "./doc-plan-evidence.ts";
import type { Planning } from "./eco-planning.ts";
import type { MarkerEnvironment } from "./pip-requirement.ts";
import { glibcVersion, type PythonHost } from "./pip-tags.ts";

/*
 * The Python that would run: what `pip inspect` tells of it, and the host's glibc. https://pip.pypa.io/en/stable/reference/inspect-report/
 */

const INSPECT = ["python3", "-m", "pip", "inspect"];
/** No file of the host's says what pip does in planning. */
const ISOLATED = { PIP_CONFIG_FILE: "/dev/null", PIP_DISABLE_PIP_VERSION_CHECK: "1", PIP_NO_INPUT: "1" };

const Report = v.looseObject({ environment: v.record(v.string(), v.string()) });

export interface InspectedHost {
  command: CommandEvidence;
  /** Null where pip gave no usable answer; `problem` then says why. */
  environment: MarkerEnvironment | null;
  problem: string;
  host: PythonHost;
}

/** Asks the host's pip. Doesn't throw for a missing or broken one. */
export async function inspectHost(planning: Planning): Promise<InspectedHost> {
  const { stdout, stderr, evidence } = await planning.run(INSPECT, {
    // Only `environment` is used. What is installed is none of the plan's business, and reading it takes longer than all the rest.
    settings: (home) => ({ variables: { ...ISOLATED, PIP_PATH: home } }),
  });
  const environment = evidence.outcome === "ok" ? readReport(stdout) : null;
  const { architecture } = planning.host;
  return {
    command: evidence,
    environment,
    problem: problemOf(evidence, stderr),
    host: {
      pythonVersion: environment?.python_full_version ?? "",
      implementation: environment?.implementation_name ?? "",
      architecture,
      glibc: glibcVersion(planning.readText("/var/lib/dpkg/status") ?? "", architecture),
    },
  };
}

function readReport(stdout: string): MarkerEnvironment | null {
  try {
    const { environment } = v.parse(Report, JSON.parse(stdout));
    return environment.python_full_version === undefined ? null : environment;
  } catch {
    return null;
  }
}

function problemOf({ outcome }: CommandEvidence, stderr: string): string {
  if (outcome === "missing")
    return "python3 is not installed, so it isn't known which packages it would take.";
  if (outcome === "ok") return "pip's answer about this host can't be read.";
  const line = stderr.trim().split("\n").at(-1) ?? "";
  return `python3 -m pip inspect failed, so it isn't known which packages would be taken: ${line.slice(0, 1000)}`;
}
