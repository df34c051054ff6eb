import { join } from "node:path";
import * as v from "valibot";
import { npm } from "../src/npm.ts";
import { openPlanning } from "../src/plan-world.ts";

/*
 * Our closure of a package beside that of this machine's npm.
 */

export interface Comparison {
  only: { ours: string[]; npms: string[] };
  count: number;
  refusal: string | null;
}

async function ourClosure(target: string): Promise<Set<string> | string> {
  const planning = openPlanning({ env: process.env });
  try {
    const findings = await npm.gather("install", npm.parseTargets("install", [target]), planning);
    if (!findings.metadata_available) return findings.warnings.join(" ");
    return new Set(findings.transaction.map(({ name, to_version }) => `${name}@${to_version}`));
  } finally {
    planning.close();
  }
}

/** What `npm install --global --dry-run` would add, by its own words: an alias stands under the name that it is given. */
async function npmsClosure(target: string, home: string): Promise<Set<string> | string> {
  const argv = [
    "npm",
    "install",
    "--global",
    "--prefix",
    join(home, "prefix"),
    "--ignore-scripts",
    "--no-audit",
  ];
  const child = Bun.spawn([...argv, "--no-fund", "--dry-run", target], {
    env: { ...process.env, npm_config_cache: join(home, "cache"), HOME: home },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if ((await child.exited) !== 0) return stderr.slice(0, 300);
  return new Set(
    [...stdout.matchAll(/^add (\S+) (\S+)$/gm)].map(([, name, version]) => `${name}@${version}`),
  );
}

/** Takes out what differs only because a package of ours depends on another one under a name of its choice. */
async function withoutAliases(
  ours: string[],
  npms: string[],
  all: ReadonlySet<string>,
): Promise<Comparison["only"]> {
  if (npms.length === 0) return { ours, npms };
  const aliases = new Map<string, string>();
  for (const one of all) {
    const at = one.lastIndexOf("@");
    const url = `https://registry.npmjs.org/${one.slice(0, at).replace("/", "%2f")}/${one.slice(at + 1)}`;
    const { dependencies = {}, optionalDependencies = {} } = v.parse(
      Dependencies,
      await (await fetch(url)).json(),
    );
    for (const [alias, spec] of Object.entries({ ...dependencies, ...optionalDependencies })) {
      const [, real] = /^npm:(.[^@]*)/.exec(spec) ?? [];
      if (real !== undefined) aliases.set(alias, real);
    }
  }
  const real = (one: string) => {
    const at = one.lastIndexOf("@");
    return `${aliases.get(one.slice(0, at)) ?? one.slice(0, at)}${one.slice(at)}`;
  };
  const resolved = new Set(npms.map(real));
  return {
    ours: ours.filter((one) => !resolved.has(one)).sort(),
    npms: npms.filter((one) => !all.has(real(one))).sort(),
  };
}

const names = v.optional(v.record(v.string(), v.string()));
const Dependencies = v.looseObject({ dependencies: names, optionalDependencies: names });

/** Compares the two. `home` is an empty directory for npm, with `prefix/lib` in it. */
export async function compare(target: string, home: string): Promise<Comparison> {
  const [ours, npms] = [await ourClosure(target), await npmsClosure(target, home)];
  if (typeof ours === "string" || typeof npms === "string")
    return {
      only: { ours: [], npms: [] },
      count: typeof npms === "string" ? 0 : npms.size,
      refusal: typeof ours === "string" ? ours : `npm fails: ${String(npms)}`,
    };
  const only = await withoutAliases(
    [...ours].filter((one) => !npms.has(one)),
    [...npms].filter((one) => !ours.has(one)),
    ours,
  );
  return { only, count: npms.size, refusal: null };
}
