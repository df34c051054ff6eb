import * as v from "valibot";
import type { NpmVersion } from "./npm-metadata.ts";
import { digestOf } from "./npm-registry.ts";

const View = v.looseObject({
  name: v.string(),
  version: v.string(),
  dist: v.looseObject({
    integrity: v.optional(v.string()),
    shasum: v.optional(v.string()),
  }),
});

/**
 * What `npm view <target> --json` says of a version that contradicts what the registry told us, or null. Without an exact version it
 * needn't speak of this one: it shows `latest`, or every version in a range, where installing prefers one that is made for this node.
 */
export function viewProblem(stdout: string, version: NpmVersion, isExact: boolean): string | null {
  let tree: unknown;
  try {
    tree = JSON.parse(stdout);
  } catch {
    return "npm's answer is not JSON";
  }
  const views = v.safeParse(v.array(View), Array.isArray(tree) ? tree : [tree]);
  if (!views.success) return "npm's answer is not package metadata";
  const seen = views.output.find((one) => one.name === version.name && one.version === version.version);
  if (seen === undefined && !isExact) return null;
  if (seen === undefined) return `npm's answer has no ${version.name}@${version.version}`;
  const [theirs, ours] = [digestOf({ ...version, dist: seen.dist }), digestOf(version)];
  return theirs?.hex === ours?.hex ? null : "npm sees another hash of it than the registry gave us";
}
