import * as v from "valibot";
import type { Planning, RegistryRequest } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { PipConfig } from "./pip-config.ts";
import { admitsPython, newestFirst } from "./pip-requirement.ts";
import { type PythonHost, parseWheelName, supportedTags, tagRank } from "./pip-tags.ts";
import { normalName } from "./pip-target.ts";
import { isPythonVersion } from "./pip-version.ts";
import { leadsHome } from "./sys-fetch.ts";

/*
 * An index's page of a project: https://packaging.python.org/en/latest/specifications/simple-repository-api/ (PEP 503, 592, 658,
 * 691, 700, 714, 740). Only wheels are taken: a source archive runs its own code when it is installed.
 */

const JSON_V1 = "application/vnd.pypi.simple.v1+json";

const Digests = v.record(v.string(), v.string());
const File = v.looseObject({
  filename: v.string(),
  url: v.string(),
  hashes: Digests,
  "requires-python": v.nullish(v.string()),
  "core-metadata": v.nullish(v.union([v.boolean(), Digests])),
  "dist-info-metadata": v.nullish(v.union([v.boolean(), Digests])),
  yanked: v.nullish(v.union([v.boolean(), v.string()])),
  size: v.nullish(v.number()),
  "upload-time": v.nullish(v.string()),
  provenance: v.nullish(v.string()),
});
type File = v.InferOutput<typeof File>;
const Page = v.looseObject({
  meta: v.looseObject({ "api-version": v.string() }),
  "project-status": v.nullish(v.looseObject({ status: v.optional(v.string()) })),
  files: v.array(File),
});

/** The wheel of one version that this host's Python would take. */
export interface Wheel {
  /** Normalised name of the project. */
  name: string;
  version: string;
  filename: string;
  url: URL;
  sha256: string;
  /** SHA-256 of the metadata that the index offers beside the wheel; null where it offers none, or none with a hash. */
  metadataSha256: string | null;
  /** Why it was withdrawn, or null. */
  yanked: string | null;
  publishedAt: string | null;
  /** Where its attestations are: null where the index says that there are none, undefined where it doesn't say. */
  provenance: URL | null | undefined;
}

export interface Project {
  name: string;
  /** Newest first; one wheel for each version. */
  wheels: Wheel[];
  /** Versions for which the index has nothing that may be taken, with the reason. */
  others: { version: string; why: string }[];
  /** Whether the index knows the project at all. */
  found: boolean;
}

export interface IndexReader {
  project(name: string): Promise<Project>;
}

/** Reads pages of an index, each of them once. The host may still be looked at when the first pages are asked for. */
export function indexReader(config: PipConfig, host: Promise<PythonHost>, planning: Planning): IndexReader {
  const supported = host.then(supportedTags);
  const pages = new Map<string, Promise<Project>>();
  const readProject = async (name: string): Promise<Project> => {
    const url = new URL(`${name}/`, config.index);
    const request = { ...config.request, headers: { ...config.request.headers, accept: JSON_V1 } };
    const answer = await planning.get(url, request);
    const [tags, { pythonVersion }] = await Promise.all([supported, host]);
    if (answer.status === 404) return { name, wheels: [], others: [], found: false };
    if (answer.status !== 200)
      throw unusable(
        url,
        `status ${answer.status}${answer.location === "" ? "" : ", and sends elsewhere, which is not followed"}`,
      );
    return readPage(name, url, answer, (file) => wheelOf(name, url, file, tags, pythonVersion));
  };
  return {
    project(name) {
      const known = pages.get(name) ?? readProject(name);
      pages.set(name, known);
      return known;
    },
  };
}

/** The request for an address that the index names: its credentials go to its own host alone. */
export function indexRequest(url: URL, config: PipConfig): RegistryRequest {
  return url.origin === config.index.origin ? config.request : config.otherRequest;
}

function readPage(
  name: string,
  url: URL,
  { bytes, contentType }: { bytes: Uint8Array; contentType: string },
  choose: (file: File) => Choice | null,
): Project {
  if (!/json/.test(contentType) && Buffer.from(bytes.subarray(0, 64)).toString().trimStart().startsWith("<"))
    throw unusable(url, "it has no JSON (PEP 691), only HTML");
  let tree: unknown;
  try {
    tree = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw unusable(url, "its page is no JSON");
  }
  const page = v.safeParse(Page, tree);
  if (!page.success) throw unusable(url, `its page has another form (${v.getDotPath(page.issues[0]) ?? ""})`);
  const { files, meta } = page.output;
  if (!/^1\.\d+$/.test(meta["api-version"]))
    throw unusable(url, `its pages are of version ${meta["api-version"]}`);
  if (page.output["project-status"]?.status === "quarantined")
    throw unusable(url, `${name} is quarantined there: nobody should install it`);
  const best = new Map<string, Choice & { wheel: Wheel }>();
  const others = new Map<string, string>();
  for (const file of files) {
    const choice = choose(file);
    if (choice === null) continue;
    const { version, why, wheel } = choice;
    if (wheel === null) {
      const known = others.get(version);
      if (known === undefined || known.startsWith(SOURCE_ONLY)) others.set(version, why);
    } else if (isBetter(choice, best.get(version))) best.set(version, { ...choice, wheel });
  }
  return {
    name,
    wheels: newestFirst([...best.values()].map(({ wheel }) => wheel)),
    others: newestFirst(
      [...others].filter(([version]) => !best.has(version)).map(([version, why]) => ({ version, why })),
    ),
    found: true,
  };
}

export const SOURCE_ONLY = "only a source archive";

interface Choice {
  version: string;
  wheel: Wheel | null;
  /** Why the file can't be taken, where it can't. */
  why: string;
  rank: number;
  build: readonly [number, string];
}

function wheelOf(
  name: string,
  page: URL,
  file: File,
  supported: ReadonlyMap<string, number>,
  pythonVersion: string,
): Choice | null {
  const refused = (version: string, why: string): Choice => ({
    version,
    why,
    wheel: null,
    rank: 0,
    build: [0, ""],
  });
  const parsed = parseWheelName(file.filename);
  if (parsed === null) {
    const version = sourceVersion(name, file.filename);
    return version === null
      ? null
      : refused(version, `${SOURCE_ONLY}, which would run its own code to be built`);
  }
  const { version, build } = parsed;
  if (normalName(parsed.name) !== name || !isPythonVersion(version)) return null;
  const rank = tagRank(parsed, supported);
  const requires = file["requires-python"] ?? null;
  if (!admitsPython(requires, pythonVersion)) return refused(version, `for Python ${requires}`);
  if (rank === null) return refused(version, "no wheel for this machine and Python");
  const sha256 = file.hashes.sha256?.toLowerCase() ?? "";
  if (!/^[0-9a-f]{64}$/.test(sha256)) return refused(version, "the index gives no SHA-256");
  const url = URL.canParse(file.url, page.href) ? new URL(file.url, page.href) : null;
  if (url === null || leadsHome(page, url) || (url.protocol !== "https:" && url.origin !== page.origin))
    return refused(version, "its address can't be used");
  url.hash = "";
  const metadata = file["core-metadata"] ?? file["dist-info-metadata"];
  const metadataSha256 = typeof metadata === "object" ? (metadata?.sha256?.toLowerCase() ?? null) : null;
  const provenance = file.provenance;
  const wheel: Wheel = {
    ...{ name, version, filename: file.filename, url, sha256, metadataSha256 },
    yanked: file.yanked === true ? "no reason given" : file.yanked === false ? null : (file.yanked ?? null),
    publishedAt: timeOf(file["upload-time"]),
    provenance:
      typeof provenance === "string" && URL.canParse(provenance, page.href)
        ? new URL(provenance, page.href)
        : provenance === null
          ? null
          : undefined,
  };
  return { version, wheel, why: "", rank, build };
}

/** Withdrawn files come last, then the better tag counts, then the higher build number, as pip has it. */
function isBetter(one: Choice, than: Choice | undefined): boolean {
  if (than === undefined) return true;
  const order = [
    Number(one.wheel?.yanked !== null) - Number(than.wheel?.yanked !== null),
    one.rank - than.rank,
    than.build[0] - one.build[0],
    one.build[1] < than.build[1] ? 1 : one.build[1] > than.build[1] ? -1 : 0,
  ].find((difference) => difference !== 0);
  return order !== undefined && order < 0;
}

function sourceVersion(name: string, filename: string): string | null {
  const stem = /^(.*)\.(?:tar\.gz|zip|tar\.bz2|tgz)$/.exec(filename)?.[1] ?? "";
  for (let at = stem.indexOf("-"); at > 0; at = stem.indexOf("-", at + 1)) {
    const version = stem.slice(at + 1);
    if (normalName(stem.slice(0, at)) === name && isPythonVersion(version)) return version;
  }
  return null;
}

function timeOf(text: string | null | undefined): string | null {
  const date = typeof text === "string" ? new Date(text) : null;
  return date !== null && Number.isFinite(date.getTime()) ? date.toISOString() : null;
}

function unusable(url: URL, why: string): AegisError {
  return new AegisError("unavailable", `the index ${url.host} can't be used for ${url.pathname}: ${why}`);
}
