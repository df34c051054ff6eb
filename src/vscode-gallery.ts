import { parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import { isProtected } from "./sys-fetch.ts";

/*
 * What a gallery says of one version of an extension. Planning asks by GET alone.
 */

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
export function jsonOf(bytes: Uint8Array, url: URL): unknown {
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
export function publicationTime(given: string | null | undefined): string | null {
  if (typeof given !== "string" || !/^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)$/.test(given)) return null;
  const time = Date.parse(given);
  return Number.isFinite(time) ? new Date(time).toISOString() : null;
}

export function unusable(url: URL, why: string): AegisError {
  return new AegisError("unavailable", `${url.host} gave no usable answer: ${why}`, "Try again later.");
}
