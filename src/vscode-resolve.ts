import { createHash } from "node:crypto";
import { inParallel, requirementChain } from "./eco-closure.ts";
import type { PackageFile, Planning } from "./eco-planning.ts";
import type { TimeTrust } from "./eco-timestamp.ts";
import { AegisError } from "./errors.ts";
import type { VscodeGallery } from "./vscode-config.ts";
import {
  type ExtensionEvidence,
  extensionEvidence,
  type GetDocument,
  statedSha256,
} from "./vscode-evidence.ts";
import {
  addressIn,
  findInOpenVsx,
  type ListedExtension,
  newestInMarketplace,
  unusable,
} from "./vscode-gallery.ts";
import { readVsix, type Vsix } from "./vscode-vsix.ts";

/*
 * An extension with all that it needs and brings along, each in the newest version for this platform; what the editor would install
 * with it. Each package file says itself what it needs; the gallery is not asked.
 */

const CONCURRENCY = 4;
const MAX_EXTENSIONS = 200;
const MAX_FILE = 512 * 1024 * 1024;
/** Open VSX keeps files in a storage, and sends there. */
const MAX_REDIRECTS = 3;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
/** dpkg's architectures as VS Code calls its platforms. */
const PLATFORMS: Readonly<Record<string, string>> = {
  amd64: "linux-x64",
  arm64: "linux-arm64",
  armhf: "linux-armhf",
};
/** The publisher of extensions that are part of the editor. */
const BUILT_IN = "vscode.";

export interface PlannedExtension {
  listed: ListedExtension;
  vsix: Vsix;
  /** Where the file really is. */
  url: URL;
  sha256: string;
  size: number;
  evidence: ExtensionEvidence;
  /** `id version` of one that needs it; null for what was asked for. */
  requiredBy: string | null;
}

export interface ExtensionWorld {
  gallery: VscodeGallery;
  planning: Planning;
  /** Of the editor that is to run them; null where none is installed. */
  editor: string | null;
  time: TimeTrust;
}

/**
 * Resolves an extension and fetches every file.
 * @throws AegisError `not_found` for an extension or a version that the gallery lacks, `unavailable`, `refused`, `evidence_mismatch`
 */
export async function resolveExtension(
  id: string,
  version: string | null,
  world: ExtensionWorld,
): Promise<PlannedExtension[]> {
  const found = new Map<string, PlannedExtension>();
  const parents = new Map<string, string | null>();
  let wave: { id: string; version: string | null; requiredBy: string | null }[] = [
    { id, version, requiredBy: null },
  ];
  while (wave.length > 0) {
    if (found.size + wave.length > MAX_EXTENSIONS)
      throw new AegisError(
        "refused",
        `it brings along more than ${MAX_EXTENSIONS} others`,
        "Plan another extension.",
      );
    const planned = await inParallel(wave, CONCURRENCY, (one) => planOne(one, world, parents));
    for (const one of planned) {
      found.set(one.vsix.id, one);
      parents.set(nameOf(one), one.requiredBy);
    }
    const next = new Map<string, (typeof wave)[number]>();
    for (const one of planned)
      for (const needed of one.vsix.requires)
        if (!found.has(needed) && !next.has(needed) && !needed.startsWith(BUILT_IN))
          next.set(needed, { id: needed, version: null, requiredBy: nameOf(one) });
    wave = [...next.values()];
  }
  return [...found.values()];
}

function nameOf({ vsix }: PlannedExtension): string {
  return `${vsix.id} ${vsix.version}`;
}

async function planOne(
  { id, version, requiredBy }: { id: string; version: string | null; requiredBy: string | null },
  { gallery, planning, editor, time }: ExtensionWorld,
  parents: ReadonlyMap<string, string | null>,
): Promise<PlannedExtension> {
  try {
    const listed = await find(id, version, gallery, planning);
    const get: GetDocument = (url, maxBytes) => document(url, maxBytes, planning);
    const stated = await statedSha256(listed, get);
    const { url, file } = await packageFile(listed.file, stated, planning);
    const vsix = readVsix(file.bytes);
    const evidence = await extensionEvidence(listed, { bytes: file.bytes, vsix }, stated, get, time);
    refuseOther(listed, vsix);
    if (editor !== null && !Bun.semver.satisfies(editor, vsix.engine))
      throw refused(
        `${id} ${vsix.version} is made for VS Code ${vsix.engine}, and here is ${editor}; name another version`,
      );
    return { listed, vsix, url, sha256: file.sha256, size: file.bytes.length, evidence, requiredBy };
  } catch (error) {
    // What was asked for and isn't there is a mistake of whoever asked.
    if (!(error instanceof AegisError) || error.code === "internal" || requiredBy === null) throw error;
    const chain = requirementChain(requiredBy, parents);
    throw refused(`${id}, which ${chain} needs: ${error.message}`);
  }
}

async function find(
  id: string,
  version: string | null,
  gallery: VscodeGallery,
  planning: Planning,
): Promise<ListedExtension> {
  const platform = PLATFORMS[planning.host.architecture];
  if (platform === undefined) throw refused(`VS Code has no platform for ${planning.host.architecture}`);
  const found =
    gallery.openVsx === null
      ? await newestInMarketplace(id, version, platform, gallery, planning)
      : await findInOpenVsx(id, version, platform, gallery.openVsx, planning);
  if (found !== null) return found;
  const what = version === null ? id : `${id} ${version}`;
  throw new AegisError(
    "not_found",
    `${gallery.service.host} has no ${what} for ${platform}`,
    "Look up the extension and its versions on the gallery's web site.",
  );
}

/** @throws AegisError `refused` for a file that is not what the gallery says */
function refuseOther(listed: ListedExtension, vsix: Vsix): void {
  const [stated, found] = [listed, vsix].map(({ id, version, platform }) => `${id} ${version} (${platform})`);
  if (stated !== found) throw refused(`the gallery says ${stated}, and its file is ${found}`);
}

/** A package file, and where it was found: the run fetches it there, and follows nothing. */
async function packageFile(
  address: URL,
  sha256: string | null,
  planning: Planning,
): Promise<{ url: URL; file: PackageFile }> {
  // The first byte only: it tells where the file is, also if the file is known already.
  const { url, answer } = await located(address, planning, {
    headers: { range: "bytes=0-0" },
    maxBytes: MAX_FILE,
  });
  if (answer.status === 200) {
    const found = createHash("sha256").update(answer.bytes).digest("hex");
    if (sha256 !== null && found !== sha256)
      throw new AegisError(
        "evidence_mismatch",
        `${url.host} sent a file that doesn't match its metadata: ${url.pathname}`,
        "Don't install it: plan again later, and tell the gallery.",
      );
    return { url, file: { bytes: answer.bytes, sha256: found } };
  }
  if (answer.status !== 206) throw unusable(url, `status ${answer.status}`);
  const digest = sha256 === null ? null : ({ algorithm: "sha256", hex: sha256 } as const);
  return { url, file: await planning.packageFile(url, digest, { maxBytes: MAX_FILE }) };
}

async function document(address: URL, maxBytes: number, planning: Planning): Promise<Uint8Array> {
  const { url, answer } = await located(address, planning, { maxBytes });
  if (answer.status !== 200) throw unusable(url, `status ${answer.status}`);
  return answer.bytes;
}

async function located(
  address: URL,
  planning: Planning,
  request: { headers?: Record<string, string>; maxBytes: number },
) {
  let url = address;
  let answer = await planning.get(url, request);
  for (let hops = 0; hops < MAX_REDIRECTS && REDIRECTS.includes(answer.status); hops++) {
    url = addressIn(answer.location, url);
    answer = await planning.get(url, request);
  }
  return { url, answer };
}

function refused(why: string): AegisError {
  return new AegisError("refused", why, "Plan another version, or another extension.");
}
