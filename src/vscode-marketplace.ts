import * as v from "valibot";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { VscodeGallery } from "./vscode-config.ts";
import { addressIn, jsonOf, type ListedExtension, publicationTime, unusable } from "./vscode-gallery.ts";

/*
 * Microsoft's gallery protocol, as far as it answers to GET: the newest versions of an extension. All others it tells by POST alone,
 * which planning doesn't send. (vscode, src/vs/platform/extensionManagement/common/extensionGalleryService.ts)
 */

const ASSET = "Microsoft.VisualStudio.Services.";
const PRE_RELEASE = "Microsoft.VisualStudio.Code.PreRelease";

const text = v.optional(v.nullable(v.string()));
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
