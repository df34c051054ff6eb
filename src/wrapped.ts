import type { Io } from "./command.ts";
import type { WrapperName } from "./eco-names.ts";
import { NOT_BUILT } from "./eco-table.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { exec, ownArgv, ownEnvironment } from "./exec.ts";
import { processIo } from "./process-io.ts";
import { resolveProgram } from "./subprocess.ts";
import { safe, showArgv } from "./terminal.ts";
import { judge } from "./wrapper-judge.ts";
import { PROGRAMS } from "./wrapper-table.ts";

/** Counts how many wrappers stand above this process. */
const DEPTH = "AEGIS_WRAPPER_DEPTH";
/** More than programs that call each other ever need. */
const MAX_DEPTH = 8;

/**
 * Stands in for a package manager: what only looks becomes the real program, what would change something becomes a plan,
 * the rest is refused, also what this version can't plan yet. A guard rail and no boundary: whoever types the program's
 * whole path goes around it. Maintainer scripts are let through: dpkg runs them, as part of what was decided already.
 * @returns for a plan what policy would make of it: `denied`, `snapshot` or else `approval`, since what was asked for has
 *   not happened; `ok` where there is nothing to do
 * @throws AegisError `not_run` for what is refused; what planning throws
 */
export async function runWrapped(name: WrapperName): Promise<ExitStatus> {
  const argv = ownArgv();
  const words = argv.slice(1).map((word) => word.toString("utf8"));
  const verdict =
    process.env.DPKG_MAINTSCRIPT_NAME === undefined ? judge(name, words) : { does: "pass" as const };
  if (verdict.does === "pass") return become(name, argv);
  if (verdict.does === "refuse") {
    const instead = verdict.instead === null ? `aegis plan --help` : showArgv(["aegis", ...verdict.instead]);
    throw new AegisError(
      "not_run",
      `${[name, verdict.what].filter((word) => word !== "").join(" ")} was not run: ${verdict.why}`,
      `On this host Aegis lets only read-only calls of ${name} through. To learn what a change would do: ${instead}`,
    );
  }
  const { ecosystem, operation, targets } = verdict;
  if (NOT_BUILT.includes(ecosystem)) {
    throw new AegisError(
      "not_run",
      `${name} was not run: this version of Aegis can't plan ${ecosystem} ${operation} yet, so nobody could approve it`,
      `On this host Aegis lets only read-only calls of ${name} through. Ask the administrator what is to be done.`,
    );
  }
  const io = processIo(false);
  io.note(
    `${name} was not run; Aegis makes a plan of it: ${safe(showArgv(["aegis", "plan", ecosystem, operation, ...targets]))}`,
  );
  const { plan } = await import("./plan.ts");
  let written: unknown = null;
  await plan.run(
    { ecosystem, operation, targets, out: undefined },
    {
      ...io,
      result(document, text) {
        if (typeof document === "object" && document !== null && "plan" in document) written = document.plan;
        io.result(document, text);
      },
    },
  );
  return statusOf(written, io);
}

/** What comes next for a plan: nothing, or what the policy of whoever typed says. */
async function statusOf(written: unknown, io: Io): Promise<ExitStatus> {
  // Only here, since every call that is let through waits for what stands at the top.
  const [{ canonicalHash }, { parseDocument }, { evaluate, policyExit }, { loadPolicyConfig }] =
    await Promise.all([
      import("./canonical.ts"),
      import("./documents.ts"),
      import("./evaluate.ts"),
      import("./policy-config.ts"),
    ]);
  const plan = parseDocument("plan", written);
  if (plan.nothing_to_do) return EXIT.ok;
  const { config, hash } = loadPolicyConfig(io.env);
  const { decision } = evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
  // What policy allows still waits for a signature.
  return decision === "allow" ? EXIT.approval : policyExit(decision);
}

/** Becomes the real program, with words and environment as they came, but for the count and what its table sets. */
function become(name: WrapperName, argv: readonly Buffer[]): never {
  const depth = Number(process.env[DEPTH] ?? "0");
  if (!(depth < MAX_DEPTH)) {
    throw new AegisError(
      "not_run",
      `wrappers of Aegis call each other: ${name} is the ${MAX_DEPTH + 1}th in a row`,
      `What is behind it is no package manager. Look: type -a ${name}`,
    );
  }
  const program = resolveProgram(name);
  if (program === null) {
    throw new AegisError("not_run", `${name} is not installed; this is only Aegis's wrapper of it`);
  }
  const set = Object.entries({ ...PROGRAMS[name].environment, [DEPTH]: `${depth + 1}` });
  const kept = ownEnvironment().filter((variable) => {
    const text = variable.toString("latin1");
    return !set.some(([key]) => text.startsWith(`${key}=`));
  });
  exec(program, argv, [...kept, ...set.map(([key, value]) => Buffer.from(`${key}=${value}`))]);
}
