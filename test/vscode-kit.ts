import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { zip } from "./archive-kit.ts";
import { type RegistryAnswer, type StandIn, serveAnswers, standInPlanning } from "./registry-kit.ts";

/*
 * A gallery of our own that answers as Open VSX does: extensions made of a manifest and files, signed with a key made here.
 */

export const GALLERY = "https://open-vsx.org";
export const API = `${GALLERY}/api`;
const KEY_ID = "14ccb407-4e79-41ed-be5a-6d608325c45a";

export interface FakeExtension {
  /** `publisher.name`. */
  id: string;
  version: string;
  platform?: string;
  /** package.json, besides publisher, name, version and engines. */
  manifest?: Record<string, unknown>;
  /** Files of the extension by path. */
  files?: Readonly<Record<string, string | Buffer>>;
  /** What the description says of the extension, where it differs. */
  described?: Partial<Record<"Publisher" | "Id" | "Version" | "TargetPlatform", string>>;
  /** The whole package file. */
  vsix?: Buffer;
  /** What the gallery says besides or instead. */
  listed?: Record<string, unknown>;
  /** Addresses of files besides or instead. */
  links?: Record<string, unknown>;
}

export const SIGNER = generateKeyPairSync("ed25519");
export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const pemOf = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();
/** A key as evidence names it. */
export const hexOf = (key: KeyObject) =>
  Buffer.from(key.export({ format: "jwk" }).x ?? "", "base64url").toString("hex");

export function vsixOf({ id, version, platform, manifest = {}, files = {}, described, vsix }: FakeExtension) {
  if (vsix !== undefined) return vsix;
  const [publisher = "", name = ""] = id.split(".");
  const json = { publisher, name, version, engines: { vscode: "^1.50.0" }, ...manifest };
  const attributes = {
    ...{ Language: "en-US", Id: name, Version: version, Publisher: publisher },
    ...(platform === undefined ? {} : { TargetPlatform: platform }),
    ...described,
  };
  const words = Object.entries(attributes).map(([key, value]) => `${key}="${value}"`);
  const xml = `<?xml version="1.0" encoding="utf-8"?><PackageManifest Version="2.0.0"><Metadata><Identity ${words.join(" ")}/></Metadata></PackageManifest>`;
  return zip([
    { name: "extension.vsixmanifest", body: xml },
    { name: "[Content_Types].xml", body: "<Types/>" },
    { name: "extension/package.json", body: JSON.stringify(json) },
    ...Object.entries(files).map(([path, body]) => ({ name: `extension/${path}`, body })),
  ]);
}

/** A signature archive as Open VSX makes it. */
export function sigzipOf(vsix: Buffer, key: KeyObject = SIGNER.privateKey): Buffer {
  const digests = { sha256: createHash("sha256").update(vsix).digest("base64") };
  const manifest = JSON.stringify({ package: { size: vsix.length, digests }, entries: {} });
  return sigzip({
    ".signature.sig": sign(null, vsix, key),
    ".signature.manifest": Buffer.from(manifest),
    ".signature.p7s": Buffer.alloc(0),
  });
}

/** A zip of these files. */
export function sigzip(files: Readonly<Record<string, Buffer>>): Buffer {
  return zip(Object.entries(files).map(([name, body]) => ({ name, body })));
}

/** Everything that the gallery answers for these extensions, by address. The last version listed of an id is its newest. */
export function fakeGallery(
  extensions: readonly FakeExtension[],
  base = GALLERY,
): Record<string, RegistryAnswer> {
  const answers: Record<string, RegistryAnswer> = {
    [`${base}/api/-/public-key/${KEY_ID}`]: pemOf(SIGNER.publicKey),
  };
  for (const one of extensions) {
    const { id, version, platform = "universal", listed = {}, links = {} } = one;
    const [namespace = "", name = ""] = id.split(".");
    const vsix = vsixOf(one);
    const suffix = platform === "universal" ? "" : `@${platform}`;
    const at = `${base}/api/${namespace}/${name}`.toLowerCase();
    const file = `${at}${platform === "universal" ? "" : `/${platform}`}/${version}/file/${id}-${version}${suffix}`;
    const document = JSON.stringify({
      ...{ namespace, name, version, targetPlatform: platform },
      files: {
        ...{ download: `${file}.vsix`, sha256: `${file}.sha256`, signature: `${file}.sigzip` },
        ...{ publicKey: `${base}/api/-/public-key/${KEY_ID}`, ...links },
      },
      ...{ timestamp: "2026-01-02T03:04:05.678901Z", verified: true, deprecated: false },
      ...{ publishedBy: { loginName: "somebody" }, license: "MIT", ...listed },
    });
    answers[`${at}/${platform}/${version}`] = document;
    answers[`${at}/${platform}/latest`] = document;
    answers[`${file}.vsix`] = vsix;
    answers[`${file}.sha256`] = sha256(vsix);
    answers[`${file}.sigzip`] = sigzipOf(vsix);
  }
  return answers;
}

/** The gallery on loopback. `alter` may change what is sent. */
export const serveGallery = (
  extensions: () => readonly FakeExtension[],
  alter?: Parameters<typeof serveAnswers>[1],
) => serveAnswers((origin) => fakeGallery(extensions(), origin), alter);

export const CODE_SERVER = { "code-server": "4.100.3 9f5dcd with Code 1.100.3\n" };

/** Planning on a host that asks this gallery, by code-server. */
export const vscodePlanning = (
  answers: Readonly<Record<string, RegistryAnswer>>,
  host: Partial<StandIn> = {},
) => standInPlanning(answers, { programs: CODE_SERVER, ...host });
