import * as v from "valibot";
import { anyKeys } from "./canonical.ts";
import { isExactVersion } from "./npm-target.ts";

/*
 * A package's metadata as registries serve it (the packument), and one version in it. Registries and mirrors omit fields, so all
 * but name and version are optional.
 * https://github.com/npm/registry/blob/main/docs/REGISTRY-API.md#package
 */

const text = v.string();
const textMap = anyKeys(text);
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

/** `{name: range}`; anything else is no dependency list that npm would read. */
const ranges = v.optional(textMap);
const NpmVersion = v.looseObject({
  name: text,
  version: v.pipe(text, v.check(isExactVersion, "not a semantic version")),
  scripts: v.optional(anyKeys(v.unknown())),
  dependencies: ranges,
  optionalDependencies: ranges,
  peerDependencies: ranges,
  bundleDependencies: v.optional(v.unknown()),
  bin: v.optional(v.unknown()),
  license: v.optional(v.unknown()),
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
  _npmUser: v.optional(v.unknown()),
  deprecated: v.optional(v.union([text, v.boolean()])),
  gypfile: v.optional(v.boolean()),
  hasInstallScript: v.optional(v.boolean()),
  _hasShrinkwrap: v.optional(v.unknown()),
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

const Packument = v.looseObject({
  name: text,
  "dist-tags": v.optional(textMap, {}),
  versions: anyKeys(v.looseObject({})),
  time: v.optional(anyKeys(v.unknown()), {}),
});
export type Packument = v.InferOutput<typeof Packument>;

/** The metadata of a package, or what is wrong with it. */
export function readPackument(name: string, document: unknown): Packument | string {
  const parsed = v.safeParse(Packument, document);
  if (!parsed.success) return `no package metadata (field ${v.getDotPath(parsed.issues[0]) ?? ""})`;
  return parsed.output.name === name ? parsed.output : `the metadata of ${parsed.output.name}`;
}

/** One version of a package, or what is wrong with it. */
export function readVersion(packument: Packument, version: string): NpmVersion | string {
  const found = Object.hasOwn(packument.versions, version) ? packument.versions[version] : undefined;
  if (found === undefined) return "it has no such version";
  const parsed = v.safeParse(NpmVersion, found);
  if (!parsed.success) return `no package metadata (field ${v.getDotPath(parsed.issues[0]) ?? ""})`;
  const { name, version: said } = parsed.output;
  return name === packument.name && said === version ? parsed.output : `the metadata of ${name}@${said}`;
}

/** A version's deprecation message, or null. Registries also write `false` and "". */
export function deprecation(version: NpmVersion): string | null {
  const { deprecated } = version;
  if (deprecated === undefined || deprecated === false || deprecated === "") return null;
  return deprecated === true ? "deprecated" : deprecated;
}

/** When a version was published, RFC 3339 in UTC; null if the registry doesn't say. */
export function publishedAt({ time }: Packument, version: string): string | null {
  const said = Object.hasOwn(time, version) ? time[version] : undefined;
  const date = typeof said === "string" ? new Date(said) : null;
  return date !== null && Number.isFinite(date.getTime()) ? date.toISOString() : null;
}

/** The license as the package states it: an SPDX expression, or the types of older forms; null where it states none. */
export function licenseOf({ license, licenses }: { license?: unknown; licenses?: unknown }): string | null {
  const one = (value: unknown): string[] => {
    if (typeof value === "string") return value === "" ? [] : [value];
    if (Array.isArray(value)) return value.flatMap(one);
    return typeof value === "object" && value !== null && "type" in value ? one(value.type) : [];
  };
  const all = one(license ?? licenses);
  return all.length === 0 ? null : all.join(" OR ").slice(0, 1024);
}

/** Scripts that npm runs when it installs a package from a registry, unless it is told not to. */
export const INSTALL_SCRIPTS = ["preinstall", "install", "postinstall"] as const;

export interface NpmScript {
  name: string;
  body: string;
}

/** A version's install scripts, including the one npm adds itself. */
export function lifecycleScripts(
  version: Pick<NpmVersion, "scripts" | "gypfile" | "hasInstallScript">,
): NpmScript[] {
  const scripts: NpmScript[] = INSTALL_SCRIPTS.flatMap((name) => {
    const body = version.scripts?.[name];
    return typeof body === "string" && body !== "" ? [{ name, body }] : [];
  });
  const installs = scripts.some((s) => s.name === "preinstall" || s.name === "install");
  // npm runs this if a package has a binding.gyp and neither script (npm-install(1), "binding.gyp").
  if (version.gypfile === true && !installs) scripts.push({ name: "install", body: "node-gyp rebuild" });
  const known = scripts.some(({ name }) => INSTALL_SCRIPTS.some((one) => one === name));
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
