import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { Planning } from "./eco-planning.ts";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";
import { isProtected } from "./sys-fetch.ts";
import type { VscodeGallery } from "./vscode-config.ts";
import { isExtensionVersion } from "./vscode-target.ts";

/*
 * What a gallery says of one version of an extension, by Open VSX's interface or by Microsoft's. Planning asks by GET alone.
 */

const text = v.optional(v.nullable(v.string()));

/** One version of an extension for one platform. */
export interface ListedExtension {
  /** In lower case. */
  id: string;
  version: string;
  /** `universal`, or a platform such as `linux-x64`. */
  platform: string;
  file: URL;
  /** A document with the file's SHA-256. */
  sha256: URL | null;
  /** The archive with its signature. */
  signature: URL | null;
  /** The key of that, in PEM. */
  publicKey: URL | null;
  /** RFC 3339 in UTC. */
  publishedAt: string | null;
  publisher: string | null;
  /** Whether the gallery knows the publisher to be who it says; null where it doesn't tell. */
  isVerified: boolean | null;
  deprecated: string | null;
}

/**
 * The JSON in an answer.
 * @throws AegisError `unavailable`
 */
function jsonOf(bytes: Uint8Array, url: URL): unknown {
  try {
    return parseJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw unusable(url, "its answer is no JSON");
  }
}

/**
 * An address in a gallery's answer.
 * @throws AegisError `refused` for one that anybody on the way could answer, or only this machine
 */
export function addressIn(address: string, asked: URL): URL {
  const url = URL.canParse(address, asked.href) ? new URL(address, asked) : null;
  const isLocal = (one: URL) => isProtected(one) && one.protocol === "http:";
  if (url === null || !isProtected(url) || (isLocal(url) && !isLocal(asked)))
    throw new AegisError(
      "refused",
      `${asked.host} names an address that is not used: ${JSON.stringify(address.slice(0, 200))}`,
      "Only https addresses are.",
    );
  return url;
}

/** RFC 3339 in UTC; null for what is no time. */
function publicationTime(given: string | null | undefined): string | null {
  if (typeof given !== "string" || !/^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)$/.test(given)) return null;
  const time = Date.parse(given);
  return Number.isFinite(time) ? new Date(time).toISOString() : null;
}

export function unusable(url: URL, why: string): AegisError {
  return new AegisError("unavailable", `${url.host} gave no usable answer: ${why}`, "Try again later.");
}

/*
 * Open VSX's own interface, which answers to GET for every version: https://open-vsx.org/swagger-ui
 */

const OpenVsx = v.looseObject({
  ...{ namespace: v.string(), name: v.string(), version: v.string(), timestamp: text },
  targetPlatform: v.optional(v.string(), "universal"),
  verified: v.optional(v.boolean()),
  deprecated: v.optional(v.boolean(), false),
  preRelease: v.optional(v.boolean(), false),
  replacement: v.optional(v.nullable(v.looseObject({ displayName: text, url: text }))),
  publishedBy: v.optional(v.looseObject({ loginName: text })),
  files: v.looseObject({ download: v.string(), sha256: text, signature: text, publicKey: text }),
});

/**
 * A version of an extension for a platform, or where no version is given the newest; null where the gallery has none.
 * @throws AegisError `unavailable`, `refused` for an answer about something else
 */
export async function findInOpenVsx(
  id: string,
  version: string | null,
  platform: string,
  api: URL,
  planning: Planning,
): Promise<ListedExtension | null> {
  const path = id.replace(".", "/");
  const ask = async (of: string) => {
    const url = new URL(`${path}/${of}/${version ?? "latest"}`, api);
    const answer = await planning.get(url, { headers: { accept: "application/json" } });
    if (answer.status === 404) return null;
    if (answer.status !== 200) throw unusable(url, `status ${answer.status}`);
    return readOpenVsx(answer.bytes, { id, version, platform: of, url });
  };
  // An extension has a file for this platform or one for all; while it changes from one to the other the newest may be either.
  const found = [await ask(platform), await ask("universal")].filter((one) => one !== null);
  return found.sort((a, b) => SEMVER.compare(b.version, a.version))[0] ?? null;
}

function readOpenVsx(
  bytes: Uint8Array,
  { id, version, platform, url }: { id: string; version: string | null; platform: string; url: URL },
): ListedExtension {
  const read = v.safeParse(OpenVsx, jsonOf(bytes, url));
  if (!read.success) throw unusable(url, "its answer describes no extension");
  const { namespace, name, files, timestamp, deprecated, replacement, publishedBy, ...rest } = read.output;
  const isOther =
    `${namespace}.${name}`.toLowerCase() !== id ||
    (version !== null && rest.version !== version) ||
    rest.targetPlatform !== platform ||
    !isExtensionVersion(rest.version);
  if (isOther)
    throw new AegisError(
      "refused",
      `${url.host} answers about ${namespace}.${name} ${rest.version} (${rest.targetPlatform}), which was not asked for`.slice(
        0,
        500,
      ),
      "Plan again later, and tell the gallery.",
    );
  const address = (given: string | null | undefined) =>
    typeof given === "string" ? addressIn(given, url) : null;
  const instead = replacement?.displayName ?? replacement?.url ?? null;
  return {
    ...{ id, platform, version: rest.version },
    file: addressIn(files.download, url),
    sha256: address(files.sha256),
    signature: address(files.signature),
    publicKey: address(files.publicKey),
    publishedAt: publicationTime(timestamp),
    publisher: publishedBy?.loginName ?? namespace,
    isVerified: rest.verified ?? null,
    deprecated: deprecated
      ? `the gallery marks it as deprecated${instead === null ? "" : `; instead: ${instead}`}`
      : null,
  };
}

/*
 * Microsoft's gallery protocol, as far as it answers to GET: the newest versions of an extension. All others it tells by POST alone,
 * which planning doesn't send. (vscode, src/vs/platform/extensionManagement/common/extensionGalleryService.ts)
 */

const ASSET = "Microsoft.VisualStudio.Services.";
const PRE_RELEASE = "Microsoft.VisualStudio.Code.PreRelease";

const Extension = v.looseObject({
  extensionName: v.string(),
  publisher: v.looseObject({
    ...{ publisherName: v.string(), displayName: text },
    isDomainVerified: v.optional(v.nullable(v.boolean())),
  }),
  versions: v.array(
    v.looseObject({
      ...{ version: v.string(), targetPlatform: text, lastUpdated: text },
      files: v.optional(v.array(v.looseObject({ assetType: v.string(), source: v.string() })), []),
      properties: v.optional(v.array(v.looseObject({ key: v.string(), value: text })), []),
    }),
  ),
});
type Version = v.InferOutput<typeof Extension>["versions"][number];

/**
 * The newest version for a platform; null where the gallery has none.
 * @throws AegisError `unavailable`; `refused` for a version that GET doesn't tell of, or an answer about something else
 */
export async function newestInMarketplace(
  id: string,
  version: string | null,
  platform: string,
  { service }: VscodeGallery,
  planning: Planning,
): Promise<ListedExtension | null> {
  const [publisher, name] = id.split(".");
  const url = new URL(`${service.href}/vscode/${publisher}/${name}/latest`);
  const answer = await planning.get(url, { headers: { accept: "application/json" } });
  if (answer.status === 404) return null;
  if (answer.status !== 200) throw unusable(url, `status ${answer.status}`);
  const read = v.safeParse(Extension, jsonOf(answer.bytes, url));
  if (!read.success) throw unusable(url, "its answer describes no extension");
  const { publisher: by, extensionName, versions } = read.output;
  if (`${by.publisherName}.${extensionName}`.toLowerCase() !== id)
    throw new AegisError(
      "refused",
      `${url.host} answers about another extension than ${id}`,
      "Plan again later.",
    );
  const known = versions.filter((one) => [platform, "universal"].includes(platformOf(one)));
  const found =
    version === null ? known.find((one) => !isPreRelease(one)) : known.find((one) => one.version === version);
  if (found === undefined) {
    if (known.length === 0 || version === null) return null;
    const newest = [...new Set(known.map((one) => one.version))].slice(0, 5).join(", ");
    throw new AegisError(
      "refused",
      `${url.host} tells by GET of its newest versions alone (${newest}), and planning sends nothing else`,
      "Name one of them, or plan from a gallery that runs Open VSX (AEGIS_VSCODE_GALLERY).",
    );
  }
  const asset = (type: string) => {
    const source = found.files.find(({ assetType }) => assetType === `${ASSET}${type}`)?.source;
    return source === undefined ? null : addressIn(source, url);
  };
  const file = asset("VSIXPackage");
  if (file === null) throw unusable(url, "it names no package file");
  return {
    ...{ id, version: found.version, platform: platformOf(found), file },
    ...{ sha256: null, signature: asset("VsixSignature"), publicKey: asset("PublicKey") },
    publishedAt: publicationTime(found.lastUpdated),
    publisher: by.displayName ?? by.publisherName,
    isVerified: by.isDomainVerified ?? null,
    deprecated: null,
  };
}

function platformOf({ targetPlatform }: Version): string {
  return targetPlatform ?? "universal";
}

function isPreRelease({ properties }: Version): boolean {
  return properties.some(({ key, value }) => key === PRE_RELEASE && value === "true");
}
