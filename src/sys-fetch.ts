import { readFileSync } from "node:fs";
import { createFetch } from "ofetch";
import { AegisError, errnoOf, messageOf } from "./errors.ts";

/** Bytes read of an error response: enough for its message. */
const MAX_ERROR_BYTES = 64 * 1024;
/** Time allowed for reading the body of an error response. */
const ERROR_BODY_TIMEOUT_MS = 2000;

/**
 * Bun aborts a request when the server has been silent for 360 s (measured with 1.4.5, before the headers and within
 * the body, with ofetch too). A model reading a long prompt is silent for longer. `timeout: false` disables that
 * (measured: 660 s of silence, then the response). It must be passed to Bun's fetch, since ofetch's own `timeout` is a
 * number.
 */
const { raw: fetchWithoutTimeout } = createFetch({
  fetch: Object.assign(
    (input: Parameters<typeof fetch>[0], init?: RequestInit) => fetch(input, { ...init, timeout: false }),
    { preconnect: fetch.preconnect },
  ),
});

export interface JsonRequest {
  /** Sent as JSON with POST; without it the request is a GET. */
  body?: object;
  headers?: Readonly<Record<string, string>>;
  /** Aborts the request, also while the body is being read. */
  signal: AbortSignal;
  /** Limit on the decompressed body, in bytes. */
  maxBytes: number;
}

export interface BytesRequest extends JsonRequest {
  /** Proxy (`http://host:port`) to use instead of the environment's. */
  proxy?: string;
  /** Trusted CA certificates in PEM; defaults to the system's store. */
  certificates?: string;
}

export interface BytesAnswer {
  status: number;
  /** As sent, or "". */
  contentType: string;
  /** Target of a redirect, as sent, or "". */
  location: string;
  /** Another header, as sent, or "". */
  header(name: string): string;
  /** The whole body if the status is 200, otherwise the start of it. */
  bytes: Uint8Array;
}

export interface TextAnswer {
  status: number;
  /** As sent, or "". */
  contentType: string;
  /** The whole body if the status is 200, otherwise as much as could be read. */
  text: string;
}

/**
 * The JSON at a URL, not validated.
 * @throws AegisError `unavailable` for no response, a status other than 200, a body that is too large or not JSON
 */
export async function fetchJson(url: URL, request: JsonRequest): Promise<unknown> {
  const { status, text } = await fetchText(url, request);
  if (status !== 200) throw noUsableAnswer(url, `status ${status}`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw noUsableAnswer(url, messageOf(error));
  }
}

/**
 * The response of a URL as text, whatever its status: {@link fetchBytes}.
 * @throws AegisError `unavailable` for no response, or a body that is too large or not UTF-8
 */
export async function fetchText(url: URL, request: JsonRequest): Promise<TextAnswer> {
  const { status, contentType, bytes } = await fetchBytes(url, request);
  try {
    const text = new TextDecoder("utf-8", { fatal: status === 200 }).decode(bytes);
    return { status, contentType, text };
  } catch (error) {
    throw noUsableAnswer(url, messageOf(error));
  }
}

/**
 * The response of a URL, whatever its status. Redirects are not followed, requests are not retried, and loopback
 * addresses bypass the environment's proxy. Only `signal` limits the time.
 * @throws AegisError `unavailable` for no response, a body that is too large, or a protocol other than HTTP
 */
export async function fetchBytes(url: URL, request: BytesRequest): Promise<BytesAnswer> {
  const { signal, maxBytes } = request;
  const options = requestOptions(url, request);
  try {
    const response = await fetchWithoutTimeout(url.href, options);
    const { status } = response;
    const bytes =
      status === 200 ? await readCapped(response.body, maxBytes) : await readErrorBody(response.body);
    const { headers } = response;
    const header = (name: string) => headers.get(name) ?? "";
    return { status, contentType: header("content-type"), location: header("location"), header, bytes };
  } catch (error) {
    const timedOut = signal.aborted && messageOf(signal.reason) !== "";
    throw noUsableAnswer(url, timedOut ? messageOf(signal.reason) : reasonOf(error));
  }
}

/** @throws AegisError `unavailable` for another protocol than HTTP */
function requestOptions(url: URL, { body, headers, signal, proxy, certificates }: BytesRequest) {
  // Bun's fetch also reads file:, data: and s3: addresses, and a registry's answer may name any.
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw noUsableAnswer(url, `${url.protocol} addresses are not asked`);
  const ca = url.protocol === "https:" ? (certificates ?? systemCertificates()) : null;
  return {
    responseType: "stream" as const,
    redirect: "manual" as const,
    retry: 0 as const,
    ignoreResponseError: true,
    signal,
    headers: { accept: "application/json", ...headers },
    ...(body === undefined ? {} : { method: "POST", body }),
    ...(isLoopback(url) ? { proxy: false as const } : proxy === undefined ? {} : { proxy }),
    ...(ca === null ? {} : { tls: { ca } }),
  };
}

/** Redirects that are followed for one file: a registry's storage may be behind another one. */
const MAX_REDIRECTS = 4;

export interface StreamedRequest extends BytesRequest {
  redirects?: boolean;
  /** Headers of a conditional request (RFC 9110, 13.1). They go along with redirects, and 304 is an answer then. */
  unless?: Readonly<Record<string, string>>;
}

/**
 * Passes on the body of a URL as it comes, at most `maxBytes` of it. With `redirects` these are followed, without the request's headers,
 * wherever nobody on the way can listen. Everything else is as in {@link fetchBytes}. Returns the status, 200 or 304, and the headers.
 * @throws AegisError `unavailable` for no response, another status, or a body larger than `maxBytes`
 */
export async function fetchStreamed(
  url: URL,
  request: StreamedRequest,
  take: (chunk: Uint8Array) => Promise<void>,
  hops = 0,
): Promise<{ status: number; headers: Headers }> {
  const { signal, maxBytes, unless } = request;
  const options = requestOptions(url, { ...request, headers: { ...request.headers, ...unless } });
  let next: URL | null = null;
  let answer = { status: 0, headers: new Headers() };
  let total = 0;
  let refusal: string | null = null;
  try {
    const response = await fetchWithoutTimeout(url.href, options);
    answer = { status: response.status, headers: response.headers };
    const location = response.headers.get("location");
    if (request.redirects === true && location !== null && REDIRECTS.includes(response.status))
      next = followed(url, location, hops);
    if (next !== null) await response.body?.cancel();
    else if (response.status !== 200 && !(response.status === 304 && unless !== undefined)) {
      const elsewhere = location === null ? "" : ", and sends elsewhere, which is not followed";
      refusal = `status ${response.status}${elsewhere}`;
      await response.body?.cancel();
      throw new Error(refusal);
    }
    for await (const chunk of next === null ? (response.body ?? []) : []) {
      const room = maxBytes - total;
      total += chunk.length;
      await take(chunk.subarray(0, room));
      if (total > maxBytes) throw new Error(`the file is larger than ${maxBytes} bytes`);
    }
  } catch (error) {
    const timedOut = signal.aborted && messageOf(signal.reason) !== "";
    throw noUsableAnswer(url, refusal ?? (timedOut ? messageOf(signal.reason) : reasonOf(error)));
  }
  if (next === null) return answer;
  const { headers: _, certificates, ...rest } = request;
  const own = next.host === url.host && certificates !== undefined ? { certificates } : {};
  return fetchStreamed(next, { ...rest, ...own, headers: { accept: "*/*" } }, take, hops + 1);
}

const REDIRECTS = [301, 302, 303, 307, 308];

/** Where a redirect leads, if it may be followed; null otherwise. */
function followed(from: URL, location: string, hops: number): URL | null {
  if (hops >= MAX_REDIRECTS || !URL.canParse(location, from.href)) return null;
  const to = new URL(location, from);
  to.username = "";
  to.password = "";
  return isProtected(to) && !leadsHome(from, to) ? to : null;
}

/** The system's certificate store, with what its administrator added. Without it Bun's own applies. */
const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";
let certificatesRead: string | null | undefined;

function systemCertificates(): string | null {
  if (certificatesRead === undefined) {
    try {
      certificatesRead = readFileSync(CERTIFICATES, "utf8");
    } catch {
      certificatesRead = null;
    }
  }
  return certificatesRead;
}

/** Whether a URL points to this machine, where plain HTTP is as safe as HTTPS. */
export function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d+){3}$/.test(hostname);
}

/** Whether nobody on the way can read or replace what a URL is asked for: HTTPS, or this machine. */
export function isProtected(url: URL): boolean {
  return url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url));
}

/** Whether a registry elsewhere sends to this machine: it has no business with what listens here alone. */
export function leadsHome(from: URL, to: URL): boolean {
  return isLoopback(to) && !isLoopback(from);
}

/** @throws AegisError `refused` for a registry's address over plain HTTP, unless it is on this machine */
export function refuseUnprotected(url: URL): void {
  if (url.protocol !== "http:" || isLoopback(url)) return;
  throw new AegisError(
    "refused",
    `${url.origin} is asked without encryption, so anybody on the way could answer`,
    "Configure the registry with its https address.",
  );
}

/** The `unavailable` error of a failed request. */
export function noUsableAnswer(url: URL, why: string, hint = ""): AegisError {
  return new AegisError("unavailable", `${url.host || url.protocol} gave no usable answer: ${why}`, hint);
}

type Body = ReadableStream<Uint8Array> | null;

async function readCapped(body: Body, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  // Throwing out of the loop cancels the stream.
  for await (const chunk of body ?? []) {
    total += chunk.length;
    if (total > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The start of an error body, which may be of any type and never end. */
async function readErrorBody(body: Body): Promise<Uint8Array> {
  const reader = body?.getReader();
  const timer = setTimeout(() => void reader?.cancel(), ERROR_BODY_TIMEOUT_MS);
  const chunks: Uint8Array[] = [];
  let total = 0;
  try {
    while (total < MAX_ERROR_BYTES) {
      const next = await reader?.read();
      if (next?.value === undefined) break;
      chunks.push(next.value);
      total += next.value.length;
    }
  } catch {
    // The status is known, which is enough.
  } finally {
    clearTimeout(timer);
    await reader?.cancel().catch(() => {});
  }
  return Buffer.concat(chunks);
}

/** The cause of an ofetch error. Its own message repeats the URL, which may hold secrets. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  switch (errnoOf(cause)) {
    case "ECONNREFUSED":
      return "connection refused";
    case "ECONNRESET":
      return "the connection was cut";
    default:
      return messageOf(cause);
  }
}
