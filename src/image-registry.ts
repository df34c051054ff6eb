import { createHash } from "node:crypto";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { PackageFile, Planning, RegistryRequest } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { ImageAccess } from "./image-config.ts";
import { type Descriptor, MANIFEST_TYPES } from "./image-manifest.ts";
import { DOCKER_HUB, type ImageReference } from "./image-reference.ts";
import { type BytesAnswer, isLoopback, isProtected, noUsableAnswer } from "./sys-fetch.ts";

/*
 * One repository of an image registry, asked with GETs. A registry that answers 401 says who gives out tokens; a token is fetched
 * once, with the user's password if there is one, and goes to the registry alone.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md, https://distribution.github.io/distribution/spec/auth/token/
 */

/** Docker Hub's API. */
const HUB_API = "registry-1.docker.io";
const MAX_MANIFEST = 4 * 1024 * 1024;
const MAX_TOKEN = 64 * 1024;
/** Seconds that a token is good for where its giver doesn't say, and that it is thrown away before its end. */
const TOKEN_SECONDS = 60;
const TOKEN_SPARE = 10;

const Token = v.looseObject({
  token: v.optional(v.string()),
  access_token: v.optional(v.string()),
  expires_in: v.optional(v.number()),
});

export interface FetchedManifest {
  bytes: Uint8Array;
  contentType: string;
  /** `sha256:<hex>` of the bytes. */
  digest: string;
  url: URL;
}

type Asking = Pick<Planning, "get" | "packageFile">;

export class ImageRepository {
  readonly #base: URL;
  readonly #path: string;
  readonly #access: ImageAccess;
  readonly #planning: Asking;
  #authorization: string | null = null;
  #challenge: string | null = null;
  /** When the token has to be fetched again, on the monotonic clock in milliseconds. */
  #until = Number.POSITIVE_INFINITY;

  constructor({ domain, path }: ImageReference, access: ImageAccess, planning: Asking) {
    const host = domain === DOCKER_HUB ? HUB_API : domain;
    const url = new URL(`https://${host}/`);
    // Only this machine's own registries may do without encryption.
    this.#base = new URL(`${isLoopback(url) ? "http" : "https"}://${host}/v2/${path}/`);
    this.#path = path;
    this.#access = access;
    this.#planning = planning;
  }

  /**
   * An index or a manifest, by tag or digest, compared with its digest. Null if the repository has none.
   * @throws AegisError `unavailable`, `evidence_mismatch`
   */
  async manifest(
    reference: string,
    accept: readonly string[] = MANIFEST_TYPES,
  ): Promise<FetchedManifest | null> {
    const url = new URL(`manifests/${reference}`, this.#base);
    const answer = await this.#get(url, { accept: accept.join(", ") });
    if (answer.status === 404) return null;
    if (answer.status !== 200) throw this.#refused(url, answer);
    const { bytes, contentType } = answer;
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    const stated = reference.includes(":") ? reference : answer.header("docker-content-digest");
    if (stated.startsWith("sha256:") && stated !== digest)
      throw new AegisError(
        "evidence_mismatch",
        `${url.host} sent a manifest that doesn't match its digest: ${reference}`,
        "Don't pull it: plan again later, and tell the registry.",
      );
    return { bytes, contentType, digest, url: new URL(`manifests/${digest}`, this.#base) };
  }

  /**
   * A small file of an image, compared with its digest and size. It is kept in memory.
   * @throws AegisError `unavailable`, also for one that is larger than `maxBytes`; `evidence_mismatch`
   */
  async blob({ digest, size }: Pick<Descriptor, "digest" | "size">, maxBytes: number): Promise<PackageFile> {
    const url = this.blobUrl(digest);
    if (size > maxBytes)
      throw noUsableAnswer(url, `${digest} has ${size} bytes, and planning reads ${maxBytes} at most`);
    const headers = { ...(await this.#headers()), accept: "*/*" };
    const hex = digest.replace("sha256:", "");
    const file = await this.#planning.packageFile(
      url,
      { algorithm: "sha256", hex },
      { ...this.#sending(), headers, maxBytes: size, redirects: true },
    );
    if (file.bytes.length === size) return file;
    throw new AegisError(
      "evidence_mismatch",
      `${digest} has ${file.bytes.length} bytes, and its manifest says ${size}`,
      "Don't pull it, and tell whoever publishes the image.",
    );
  }

  /**
   * What the registry wants to see with a request for the repository's files, found out by one for a manifest; null for nothing.
   * @throws AegisError `unavailable`, `evidence_mismatch`
   */
  async authorization(digest: string): Promise<string | null> {
    await this.manifest(digest);
    return this.#authorization;
  }

  blobUrl(digest: string): URL {
    return new URL(`blobs/${digest}`, this.#base);
  }

  /**
   * The index of what refers to a manifest, by the registry's own list. Null where it keeps none.
   * @throws AegisError `unavailable`
   */
  async referrers(digest: string): Promise<{ bytes: Uint8Array; isWhole: boolean } | null> {
    const url = new URL(`referrers/${digest}`, this.#base);
    const answer = await this.#get(url, { accept: MANIFEST_TYPES[0] });
    // A registry that doesn't know the address says 404; some say that the method is wrong, or the request.
    if ([400, 404, 405].includes(answer.status)) return null;
    if (answer.status !== 200) throw this.#refused(url, answer);
    return { bytes: answer.bytes, isWhole: answer.header("link") === "" };
  }

  async #get(url: URL, headers: Record<string, string>): Promise<BytesAnswer> {
    const ask = async () =>
      this.#planning.get(url, {
        headers: { ...headers, ...(await this.#headers()) },
        ...this.#sending(),
        maxBytes: MAX_MANIFEST,
      });
    const answer = await ask();
    if (answer.status !== 401 || this.#challenge !== null) return answer;
    this.#challenge = answer.header("www-authenticate");
    await this.#authorize();
    return this.#authorization === null ? answer : ask();
  }

  async #headers(): Promise<Record<string, string>> {
    if (performance.now() > this.#until) await this.#authorize();
    return this.#authorization === null ? {} : { authorization: this.#authorization };
  }

  #sending(): RegistryRequest {
    return { ...this.#certificates(), hasToken: this.#authorization?.startsWith("Bearer ") ?? false };
  }

  #certificates(): { certificates?: string } {
    const { certificates } = this.#access;
    return certificates === undefined ? {} : { certificates };
  }

  /** @throws AegisError `unavailable` */
  async #authorize(): Promise<void> {
    const challenge = this.#challenge ?? "";
    const { authorization } = this.#access;
    if (/^basic\b/i.test(challenge)) {
      this.#authorization = authorization;
      return;
    }
    const realm = this.#realm(challenge);
    realm.searchParams.set("service", parameterOf(challenge, "service"));
    // Always for reading this repository, whatever the registry would have us ask for.
    realm.searchParams.set("scope", `repository:${this.#path}:pull`);
    const answer = await this.#planning.get(realm, {
      ...(realm.host === this.#base.host ? this.#certificates() : {}),
      headers: authorization === null ? {} : { authorization },
      maxBytes: MAX_TOKEN,
    });
    if (answer.status !== 200) throw this.#refused(realm, answer);
    const { token, seconds } = tokenOf(realm, answer.bytes);
    this.#authorization = `Bearer ${token}`;
    this.#until = performance.now() + Math.max(seconds - TOKEN_SPARE, 1) * 1000;
  }

  /** Where tokens are given out. It gets a password, so it has to be protected. */
  #realm(challenge: string): URL {
    const text = /^bearer\b/i.test(challenge) ? parameterOf(challenge, "realm") : "";
    const realm = URL.canParse(text) ? new URL(text) : null;
    if (realm === null)
      throw noUsableAnswer(this.#base, "status 401, and it doesn't say who gives out tokens");
    if (!isProtected(realm) || (isLoopback(realm) && !isLoopback(this.#base)))
      throw noUsableAnswer(
        this.#base,
        `its tokens are given out at ${realm.origin.slice(0, 200)}, which is neither https nor, as itself, on this machine`,
      );
    realm.username = "";
    realm.password = "";
    return realm;
  }

  #refused(url: URL, answer: BytesAnswer): AegisError {
    const { status } = answer;
    if (status === 401 || status === 403) {
      const who =
        this.#access.authorization === null ? "without a password" : "with the password that is configured";
      return noUsableAnswer(
        url,
        `status ${status}: ${who}, there is no such image or no access to it`,
        `Log in to ${this.#base.host} with docker login or podman login, then plan again.`,
      );
    }
    if (status === 429) {
      const wait = /^\d{1,6}$/.test(answer.header("retry-after"))
        ? `for ${answer.header("retry-after")} seconds`
        : "for a while";
      return noUsableAnswer(
        url,
        `status 429: too many requests; it asks to wait ${wait}`,
        `Wait ${wait}, or log in: most registries allow more to whom they know.`,
      );
    }
    const moved = answer.location === "" ? "" : ", with a redirect, which is not followed for manifests";
    return noUsableAnswer(url, `status ${status}${moved}`);
  }
}

/** A parameter of a challenge. https://www.rfc-editor.org/rfc/rfc9110#section-11.2 */
function parameterOf(challenge: string, name: string): string {
  const parameters = challenge.slice(0, 8192).matchAll(/([a-z_]+)=(?:"([^"]*)"|([^\s,"]+))/gi);
  for (const [, key = "", quoted, bare] of parameters)
    if (key.toLowerCase() === name) return quoted ?? bare ?? "";
  return "";
}

function tokenOf(realm: URL, bytes: Uint8Array): { token: string; seconds: number } {
  try {
    const { token, access_token, expires_in } = v.parse(
      Token,
      parseJson(Buffer.from(bytes).toString("utf8")),
    );
    const text = token ?? access_token ?? "";
    if (/^[\x21-\x7e]+$/.test(text)) return { token: text, seconds: expires_in ?? TOKEN_SECONDS };
  } catch {
    // What it sent may be a token that is badly wrapped, so it isn't quoted.
  }
  throw noUsableAnswer(realm, "it sent no token");
}
