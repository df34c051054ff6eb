import * as v from "valibot";
import type { Planning } from "./eco-planning.ts";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";
import { addressIn, jsonOf, type ListedExtension, publicationTime, unusable } from "./vscode-gallery.ts";
import { isExtensionVersion } from "./vscode-target.ts";

/*
 * Open VSX's own interface, which answers to GET for every version: https://open-vsx.org/swagger-ui
 */

const text = v.optional(v.nullable(v.string()));
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
