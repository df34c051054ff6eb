import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { Planning } from "./eco-planning.ts";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";
import type { GoConfig } from "./go-config.ts";
import { type GoMod, readGoMod, retraction } from "./go-mod.ts";
import { escapeGo, unescapeGo } from "./go-sumdb.ts";
import { isGoVersion } from "./go-target.ts";

/*
 * Module proxies: their files, and in which module and version a package is. https://go.dev/ref/mod#goproxy-protocol
 */

const MAX_PATH_ELEMENTS = 32;

export interface GoModule {
  path: string;
  version: string;
}

/** Longest zip file of a module, as the go command has it. golang.org/x/mod/zip, `MaxZipFile` */
const MAX_ZIP = 500 * 1024 * 1024;

/**
 * Asks the proxies of a configuration, in their order, as GOPROXY's commas and bars say. Everything but zip files is asked for once.
 * A module that the settings keep from proxies is not asked for.
 */
export function proxyReader(config: GoConfig, planning: Planning) {
  const known = new Map<string, Promise<ProxyFile | null>>();

  async function ask(path: string): Promise<ProxyFile | null> {
    let failure: AegisError | null = null;
    for (const { url: proxy, request, next } of config.proxies) {
      const url = new URL(`${proxy.href.replace(/\/$/, "")}/${path}`);
      try {
        const maxBytes = path.endsWith(".zip") ? { maxBytes: MAX_ZIP } : {};
        const { status, bytes, location } = await planning.get(url, { ...request, ...maxBytes });
        if (status === 200) return { url, bytes };
        if (status !== 404 && status !== 410) throw refusal(url, status, location, path);
      } catch (error) {
        if (!(error instanceof AegisError) || next === ",") throw error;
        failure ??= error;
      }
    }
    if (failure !== null) throw failure;
    return null;
  }

  return function read(path: string): Promise<ProxyFile | null> {
    const [module = ""] = path.split("/@");
    if (path.includes("/@") && config.unasked(unescapeGo(module)) !== null) return Promise.resolve(null);
    if (path.endsWith(".zip")) return ask(path);
    const answer = known.get(path) ?? ask(path);
    known.set(path, answer);
    return answer;
  };
}
export type ReadProxy = ReturnType<typeof proxyReader>;

interface ProxyFile {
  url: URL;
  bytes: Uint8Array;
}

function refusal(url: URL, status: number, location: string, path: string): AegisError {
  const why =
    location !== ""
      ? " and sends elsewhere, which is not followed"
      : status === 401 || status === 403
        ? " (if it wants credentials: they are taken from GOPROXY, https://user:password@host, never from .netrc)"
        : "";
  return new AegisError("unavailable", `${url.host} answers ${status}${why}: ${path}`);
}

/** The modules that could have a package. */
export interface Candidates {
  /** A path from the package's upwards, the longest first: a module in some version, or null where it is none. */
  found: readonly Promise<GoModule | null>[];
  /** Why there is nothing to plan where none of them is a module. */
  none(): AegisError;
}

/** The modules that could have a package in this version. All are asked for at once. */
export function modulesOf(path: string, version: string, config: GoConfig, read: ReadProxy): Candidates {
  return {
    found: modulesAbove(path, async (prefix) => {
      const answer = await read(`${escapeGo(prefix)}/@v/${escapeGo(version)}.info`);
      return answer !== null && versionOf(answer.bytes) === version ? version : null;
    }),
    none: () =>
      new AegisError(
        "not_found",
        `no module proxy has ${path} ${version}${keptBack(path, config)}`,
        `See what its newest version is: aegis plan go get ${path}`,
      ),
  };
}

/** The modules that could have a package, each in the version that a query means: https://go.dev/ref/mod#version-queries */
export function modulesByQuery(path: string, query: string, config: GoConfig, read: ReadProxy): Candidates {
  return {
    found: modulesAbove(path, (prefix) => resolveQuery(prefix, query, read)),
    none: () =>
      new AegisError(
        "not_found",
        `no module proxy has a version of ${path} that ${query} stands for${keptBack(path, config)}`,
        "Name the version: <module>@<version>.",
      ),
  };
}

function modulesAbove(
  path: string,
  versionIn: (prefix: string) => Promise<string | null>,
): Candidates["found"] {
  return prefixes(path).map((prefix) =>
    begun(versionIn(prefix).then((version) => (version === null ? null : { path: prefix, version }))),
  );
}

/**
 * The module that has the package, as the go command chooses: the longest path that is a module and for which `hasPackage` holds. What
 * goes wrong with a path doesn't matter once a longer one is a module (proxies answer 403 about `github.com`), and no answer about a
 * shorter one is waited for.
 * @throws AegisError `not_found`, `unavailable`
 */
export async function moduleWith(
  target: string,
  { found, none }: Candidates,
  hasPackage: (one: GoModule) => Promise<boolean>,
): Promise<GoModule> {
  const without: GoModule[] = [];
  for (const answer of found) {
    const one = await (without.length === 0 ? answer : answer.catch(() => null));
    if (one === null) continue;
    if (await hasPackage(one)) return one;
    without.push(one);
  }
  if (without.length === 0) throw none();
  const names = without.map(({ path, version }) => `${path} ${version}`).join(" and ");
  throw new AegisError(
    "not_found",
    `${names} has no package ${target}`,
    "Name the command's own path, such as <module>/cmd/<name>.",
  );
}

/**
 * Waits until it is known that some path is a module.
 * @throws AegisError `not_found`, `unavailable`
 */
export async function assertFound({ found, none }: Candidates): Promise<void> {
  for (const answer of found) if ((await answer) !== null) return;
  throw none();
}

/** Whichever path is known first to be a module; null where none is. */
export async function firstFound({ found }: Candidates): Promise<GoModule | null> {
  const modules = found.map((answer) => answer.then((one) => one ?? Promise.reject(new Error("no module"))));
  return Promise.any(modules).catch(() => null);
}

/** A promise that is awaited later, or never, once something else has failed. */
export function begun<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

async function resolveQuery(module: string, query: string, read: ReadProxy): Promise<string | null> {
  const base = `${escapeGo(module)}/@v`;
  const isPrefix = /^v\d+(?:\.\d+)?$/.test(query);
  if (query !== "latest" && !isPrefix) {
    const answer = await read(`${base}/${encodeURIComponent(escapeGo(query))}.info`);
    return answer === null ? null : versionOf(answer.bytes);
  }
  const versions = await versionsOf(module, read);
  const newest = newestOf(isPrefix ? versions.filter((one) => one.startsWith(`${query}.`)) : versions);
  if (newest === null || isPrefix) {
    const latest = isPrefix ? null : await read(`${escapeGo(module)}/@latest`);
    return newest ?? (latest === null ? null : versionOf(latest.bytes));
  }
  const mod = await newestGoMod(module, read);
  return newestOf(versions.filter((one) => mod === null || retraction(mod, one) === null)) ?? newest;
}

async function versionsOf(module: string, read: ReadProxy): Promise<string[]> {
  const list = await read(`${escapeGo(module)}/@v/list`);
  return Buffer.from(list?.bytes ?? [])
    .toString()
    .split("\n")
    .map((line) => line.trim())
    .filter(isGoVersion);
}

/** The newest release, else the newest pre-release; what has a go.mod before what hasn't. */
function newestOf(versions: readonly string[]): string | null {
  const sorted = versions.toSorted((a, b) => SEMVER.compare(b, a));
  const releases = sorted.filter((one) => !/^[^+]*-/.test(one));
  return releases.find((one) => !one.endsWith("+incompatible")) ?? releases[0] ?? sorted[0] ?? null;
}

/** The go.mod of the newest version, where authors retract versions and deprecate the module; null where it can't be had. */
export async function newestGoMod(module: string, read: ReadProxy): Promise<GoMod | null> {
  const newest = newestOf(await versionsOf(module, read));
  const file = newest === null ? null : await read(`${escapeGo(module)}/@v/${escapeGo(newest)}.mod`);
  return file === null ? null : readGoMod(Buffer.from(file.bytes).toString());
}

/** The version that an `.info` document names; null where that is not a canonical one. */
function versionOf(info: Uint8Array): string | null {
  const { output, success } = v.safeParse(v.looseObject({ Version: v.string() }), parsed(info));
  return success && isGoVersion(output.Version) ? output.Version : null;
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return parseJson(Buffer.from(bytes).toString());
  } catch {
    return null;
  }
}

function keptBack(path: string, config: GoConfig): string {
  const why = prefixes(path).flatMap((prefix) => config.unasked(prefix) ?? [])[0];
  return why === undefined ? "" : `: ${why}, so proxies aren't asked, and version control is never used`;
}

/** The path and all paths above it, the longest first. */
export function prefixes(path: string): string[] {
  const elements = path.split("/").slice(0, MAX_PATH_ELEMENTS);
  return elements.map((_, i) => elements.slice(0, elements.length - i).join("/"));
}
