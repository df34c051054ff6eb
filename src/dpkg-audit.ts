import { resolveProgram, run, SYSTEM_PATH } from "./subprocess.ts";

/** What `dpkg --audit` finds half-done: its own words, bounded, empty when all is well; and the packages it names. */
export async function dpkgAudit(): Promise<{ text: string; packages: string[] }> {
  const dpkg = resolveProgram("dpkg");
  if (dpkg === null) return { text: "dpkg is not installed", packages: [] };
  const env = { LC_ALL: "C.UTF-8", PATH: SYSTEM_PATH.join(":") };
  const result = await run(dpkg, ["--audit"], { env, cwd: "/", timeoutMs: 60_000, maxBytes: 256 * 1024 });
  const text = result.stdout.toString("utf8").trimEnd();
  // Each package stands on a line of its own that begins with a space: ` name   what it is`.
  const packages = [...text.matchAll(/^ (\S+)/gm)].flatMap(([, name]) => (name === undefined ? [] : [name]));
  return { text: text.slice(0, 4000), packages };
}
