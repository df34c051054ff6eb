import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { isExactVersion, type NpmTarget } from "./npm-target.ts";

/*
 * The output of `npm view <target> --json` for one version. Only standard output is read; npm writes notices to
 * standard error. Registries and mirrors omit fields, so all but name and version are optional.
 */

const text = v.string();
const textMap = v.record(text, text);
/** `"name <mail>"` or an object. */
const person = v.union([
  text,
  v.pipe(
    v.looseObject({ name: v.optional(text), email: v.optional(text) }),
    v.transform(({ name, email }) =>
      [name, email === undefined ? undefined : `<${email}>`].filter(Boolean).join(" "),
    ),
  ),
]);

const NpmVersion = v.looseObject({
  name: text,
  version: v.pipe(text, v.check(isExactVersion, "not a semantic version")),
  "dist-tags": v.optional(textMap),
  time: v.optional(v.record(text, v.unknown())),
  scripts: v.optional(v.record(text, v.unknown())),
  dependencies: v.optional(textMap),
  optionalDependencies: v.optional(textMap),
  maintainers: v.optional(
    v.union([
      v.array(person),
      v.pipe(
        person,
        v.transform((one) => [one]),
      ),
    ]),
  ),
  author: v.optional(person),
  deprecated: v.optional(v.union([text, v.boolean()])),
  gypfile: v.optional(v.boolean()),
  hasInstallScript: v.optional(v.boolean()),
  binary: v.optional(v.unknown()),
  cpu: v.optional(v.unknown()),
  dist: v.looseObject({
    integrity: v.optional(text),
    shasum: v.optional(text),
    tarball: v.optional(text),
    signatures: v.optional(v.array(v.looseObject({ keyid: text, sig: text }))),
    attestations: v.optional(v.looseObject({ url: v.optional(text) })),
  }),
});
export type NpmVersion = v.InferOutput<typeof NpmVersion>;

/**
 * The version npm would install for `target`, from the output of `npm view`, or a sentence saying why there is none.
 * For a range the output is an array of versions in no reliable order (one registry sorts 4.9.6 after 4.22.1), so npm's
 * rule is applied: `latest` if in the range, else the highest version that is not deprecated, else the highest.
 * @see https://github.com/npm/npm-pick-manifest
 */
export function readNpmView(stdout: string, target: NpmTarget): NpmVersion | string {
  let tree: unknown;
  try {
    tree = parseJson(stdout);
  } catch {
    return "npm's answer is not JSON";
  }
  const failure = v.safeParse(v.looseObject({ error: v.looseObject({ summary: text }) }), tree);
  if (failure.success) return failure.output.error.summary;
  const parsed = v.safeParse(v.array(NpmVersion), Array.isArray(tree) ? tree : [tree]);
  if (!parsed.success) {
    const path = v.getDotPath(parsed.issues[0]) ?? "";
    return `npm's answer is not package metadata (field ${path.replace(/^\d+\.?/, "")})`;
  }
  const offered = parsed.output.filter((one) => one.name === target.name);
  const chosen = choose(offered);
  if (chosen === undefined) return "npm's answer has no version of this package";
  if (target.exact && chosen.version !== target.spec?.replace(/\+.*$/, "")) {
    return `npm answered with version ${chosen.version}`;
  }
  return chosen;
}

function choose(offered: readonly NpmVersion[]): NpmVersion | undefined {
  const sorted = offered.toSorted((a, b) => Bun.semver.order(b.version, a.version));
  return (
    sorted.find((one) => one.version === one["dist-tags"]?.latest) ??
    sorted.find((one) => deprecation(one) === null) ??
    sorted[0]
  );
}

/** A version's deprecation message, or null. Registries also write `false` and "". */
export function deprecation(version: NpmVersion): string | null {
  const { deprecated } = version;
  if (deprecated === undefined || deprecated === false || deprecated === "") return null;
  return deprecated === true ? "deprecated" : deprecated;
}

/** The version's publication time, RFC 3339 in UTC; null if the registry doesn't say. */
export function publishedAt(version: NpmVersion): string | null {
  const time = version.time?.[version.version];
  const date = typeof time === "string" ? new Date(time) : null;
  return date !== null && Number.isFinite(date.getTime()) ? date.toISOString() : null;
}

/** Scripts npm can run when installing or removing a package. */
const LIFECYCLE = [
  "preinstall",
  "install",
  "postinstall",
  "preprepare",
  "prepare",
  "postprepare",
  "preuninstall",
  "uninstall",
  "postuninstall",
] as const;

export interface NpmScript {
  name: string;
  body: string;
}

/** The lifecycle scripts, including those npm adds itself. */
export function lifecycleScripts(version: NpmVersion): NpmScript[] {
  const scripts: NpmScript[] = LIFECYCLE.flatMap((name) => {
    const body = version.scripts?.[name];
    return typeof body === "string" && body !== "" ? [{ name, body }] : [];
  });
  const installs = scripts.some((s) => s.name === "preinstall" || s.name === "install");
  // npm runs this if a package has a binding.gyp and neither script (npm-install(1), "binding.gyp").
  if (version.gypfile === true && !installs) scripts.push({ name: "install", body: "node-gyp rebuild" });
  const known = scripts.some((s) => ["preinstall", "install", "postinstall"].includes(s.name));
  if (version.hasInstallScript === true && !known) {
    scripts.push({ name: "install", body: "(the registry says there is one, but not what it does)" });
  }
  return scripts;
}

const BUILD_TOOLS =
  /\b(?:node-gyp|node-pre-gyp|node-gyp-build|prebuild(?:-install|ify)?|cmake-js|cargo-cp-artifact|napi|neon|make|gcc|cargo)\b/;
const NATIVE_DEPENDENCIES =
  /^(?:nan|node-addon-api|bindings|node-gyp|node-gyp-build|node-pre-gyp|@mapbox\/node-pre-gyp|prebuild-install|cmake-js|napi-macros)$/;
const PLATFORM_PACKAGE = /(?:^|[/-])(?:linux|darwin|win32|freebsd|android)-(?:x64|arm64|arm|ia32)/;
const DOWNLOADERS = /\b(?:node-pre-gyp|node-gyp-build|prebuild-install)\b/;

/** Whether the package compiles or loads native code. */
export function hasNativeCode(version: NpmVersion): boolean {
  return (
    version.gypfile === true ||
    lifecycleScripts(version).some((s) => BUILD_TOOLS.test(s.body)) ||
    Object.keys(version.dependencies ?? {}).some((name) => NATIVE_DEPENDENCIES.test(name))
  );
}

/** Whether the package contains or downloads prebuilt machine code. */
export function hasBinaries(version: NpmVersion): boolean {
  return (
    version.binary !== undefined ||
    version.cpu !== undefined ||
    lifecycleScripts(version).some((s) => DOWNLOADERS.test(s.body)) ||
    Object.keys(version.optionalDependencies ?? {}).some((name) => PLATFORM_PACKAGE.test(name))
  );
}
