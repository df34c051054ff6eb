import { createHash } from "node:crypto";
import { lstatSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import type { CredentialsOf } from "./eco-credentials.ts";
import type { Digest, PackageFile, Planning, RegistryRequest } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import {
  type BytesAnswer,
  type BytesRequest,
  fetchBytes,
  isProtected,
  leadsHome,
  noUsableAnswer,
  refuseUnprotected,
} from "./sys-fetch.ts";
import { readFileLimited, writeFileAtomic } from "./sys-files.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";

/*
 * Planning's GET requests, and its per-user cache of package files. Cached files are named by digest and verified on
 * every use.
 */

/**
 * For one document, for one package file, and for all of one plan together: the executor plans again while others wait in its queue,
 * and a registry can be slow at each of a thousand requests.
 */
const LIMITS = { metadataMs: 60_000, fileMs: 10 * 60_000, totalMs: 30 * 60_000 };
const MAX_METADATA = 64 * 1024 * 1024;
const MAX_FILE = 512 * 1024 * 1024;
/** Files unused for this long are removed; nothing else that somebody keeps there is. */
const KEPT_MS = 30 * 86_400_000;
/** Storages of registries send on at most once more. */
const MAX_REDIRECTS = 3;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
const LENGTHS = { sha256: 64, sha512: 128, sha1: 40 } as const;

/** The registry half of {@link Planning}; `cache` is the directory of the package files, `credentials` those beside the tools' own. */
export function registryAccess(
  cache: string,
  credentials: CredentialsOf = () => ({}),
  limits = LIMITS,
): Pick<Planning, "get" | "packageFile"> {
  const { metadataMs, fileMs, totalMs } = limits;
  let isSwept = false;
  let end: number | null = null;

  /** Aborted when a request has taken `ms`, or all of them together too long. */
  function timeLimit(url: URL, ms: number): AbortSignal {
    end ??= performance.now() + totalMs;
    const left = Math.max(end - performance.now(), 0);
    return left > ms
      ? timeout(ms, `no answer from ${url.host} within ${ms / 1000} seconds`)
      : timeout(left, `the registries have taken longer than ${totalMs / 60_000} minutes`);
  }

  const hostCredentials = (url: URL, { hasToken = false }: RegistryRequest) =>
    hasToken ? {} : credentials(url);

  const get: Planning["get"] = async (url, { maxBytes = MAX_METADATA, ...request } = {}) => {
    refuseUnprotected(url);
    const headers = { ...request.headers, ...hostCredentials(url, request) };
    return fetchBytes(url, { ...request, headers, maxBytes, signal: timeLimit(url, metadataMs) });
  };

  async function packageFile(
    ...[url, digest, { maxBytes = MAX_FILE, ...request } = {}]: Parameters<Planning["packageFile"]>
  ): Promise<PackageFile> {
    refuseUnprotected(url);
    const path = digest === null ? null : join(cache, cacheName(digest));
    const known = path === null ? null : readCached(path, digest, maxBytes);
    if (known !== null) return known;
    const headers = { accept: "*/*", ...request.headers, ...hostCredentials(url, request) };
    const fetching = { ...request, headers, maxBytes, signal: timeLimit(url, fileMs) };
    const answer =
      request.redirects === true && digest !== null
        ? await followed(url, fetching)
        : await fetchBytes(url, fetching);
    if (answer.status !== 200) throw noUsableAnswer(url, statusOf(answer));
    const { bytes } = answer;
    if (digest !== null && digestOf(bytes, digest.algorithm) !== digest.hex) {
      throw new AegisError(
        "evidence_mismatch",
        `${url.host} sent a file that doesn't match its metadata: ${url.pathname}`,
        "Don't install it: plan again later, and tell the registry.",
      );
    }
    if (path !== null) {
      ensureOwnDir(cache);
      if (!isSwept) sweep(cache);
      isSwept = true;
      writeFileAtomic(path, bytes);
    }
    return { bytes, sha256: digestOf(bytes, "sha256") };
  }

  return { get, packageFile };
}

/**
 * A file that its registry keeps elsewhere: image registries send to a storage. The storage gets no header, so no password; what it
 * answers is compared with the digest.
 */
async function followed(url: URL, request: BytesRequest): Promise<BytesAnswer> {
  let answer = await fetchBytes(url, request);
  for (let hops = 0; hops < MAX_REDIRECTS && REDIRECTS.includes(answer.status); hops++) {
    const next = URL.canParse(answer.location, url.href) ? new URL(answer.location, url) : null;
    if (next === null || !isProtected(next) || leadsHome(url, next))
      throw noUsableAnswer(url, `${statusOf(answer)}: only https is, to another machine`);
    const { certificates, ...others } = request;
    const own = next.host === url.host && certificates !== undefined ? { certificates } : {};
    answer = await fetchBytes(next, { ...others, ...own, headers: { accept: "*/*" } });
  }
  return answer;
}

function timeout(ms: number, reason: string): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error(reason)), ms).unref();
  return controller.signal;
}

function statusOf({ status, location }: { status: number; location: string }): string {
  const elsewhere =
    location === "" ? "" : `, with a redirect (${location.slice(0, 200)}), which is not followed`;
  return `status ${status}${elsewhere}`;
}

/** @throws AegisError `internal` for a malformed digest, which could be a path */
function cacheName({ algorithm, hex }: Digest): string {
  if (hex.length === LENGTHS[algorithm] && /^[0-9a-f]+$/.test(hex)) return `${algorithm}-${hex}`;
  throw new AegisError("internal", `not a ${algorithm} digest`);
}

/** The cached file, if it still has its digest. */
function readCached(path: string, digest: Digest | null, maxBytes: number): PackageFile | null {
  try {
    const bytes = readFileLimited(path, maxBytes);
    if (digest === null || digestOf(bytes, digest.algorithm) !== digest.hex) return null;
    const now = new Date();
    utimesSync(path, now, now);
    return { bytes, sha256: digest.algorithm === "sha256" ? digest.hex : digestOf(bytes, "sha256") };
  } catch {
    return null;
  }
}

function digestOf(bytes: Uint8Array, algorithm: Digest["algorithm"]): string {
  return createHash(algorithm).update(bytes).digest("hex");
}

function sweep(cache: string): void {
  for (const name of readdirSync(cache)) {
    const path = join(cache, name);
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found?.isFile() === true && Date.now() - found.mtimeMs > KEPT_MS) rmSync(path, { force: true });
  }
}
