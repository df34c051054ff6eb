import { createFetch } from "ofetch";
import { AegisError, errnoOf, messageOf } from "./errors.ts";

/** What is read of an answer that is an error: enough for the sentence in it. */
const MAX_ERROR_BYTES = 64 * 1024;
/** How long an error may take to say what it is. */
const ERROR_PATIENCE_MS = 2000;

/**
 * Bun ends a request by itself when the server has been silent for long: 360 s, measured with 1.4.5 before the headers as
 * within the body, and with ofetch too. A model that reads a long prompt is silent for longer. `timeout: false` switches
 * that off (measured: 660 s of silence, then the answer); it has to reach Bun's own fetch, since ofetch's option of that
 * name is a number.
 */
const { raw: patientFetch } = createFetch({
  fetch: Object.assign(
    (input: Parameters<typeof fetch>[0], init?: RequestInit) => fetch(input, { ...init, timeout: false }),
    { preconnect: fetch.preconnect },
  ),
});

export interface JsonRequest {
  /** Sent as JSON with POST; without it the request is a GET. */
  body?: object;
  headers?: Readonly<Record<string, string>>;
  /** Ends the request, also while the answer is being read. */
  signal: AbortSignal;
  /** Cap on the answer, unpacked, in bytes. */
  maxBytes: number;
}

export interface TextAnswer {
  status: number;
  /** As the server wrote it, or "". */
  contentType: string;
  /** The whole body where the status is 200; what could be had of it otherwise. */
  text: string;
}

/**
 * The JSON that a URL answers with, unparsed by any schema.
 * @throws AegisError `unavailable` for no answer, another status than 200, an answer that is too large or not JSON
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
 * What a URL answers, whatever the status. Redirects are not followed, nothing is tried twice, and a loopback address is
 * never asked through a proxy of the environment. The time is limited by `signal` alone.
 * @throws AegisError `unavailable` for no answer, and for one that is too large or not UTF-8
 */
export async function fetchText(
  url: URL,
  { body, headers, signal, maxBytes }: JsonRequest,
): Promise<TextAnswer> {
  const options = {
    responseType: "stream" as const,
    redirect: "manual" as const,
    retry: 0 as const,
    ignoreResponseError: true,
    signal,
    headers: { accept: "application/json", ...headers },
    ...(body === undefined ? {} : { method: "POST", body }),
    ...(isLoopback(url) ? { proxy: false as const } : {}),
  };
  try {
    const response = await patientFetch(url.href, options);
    const { status } = response;
    const contentType = response.headers.get("content-type") ?? "";
    const text =
      status === 200 ? await readCapped(response.body, maxBytes) : await readOfError(response.body);
    return { status, contentType, text };
  } catch (error) {
    const timedOut = signal.aborted && messageOf(signal.reason) !== "";
    throw noUsableAnswer(url, timedOut ? messageOf(signal.reason) : reasonOf(error));
  }
}

/** True for an address of this machine, where plain HTTP is as good as HTTPS. */
export function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d+){3}$/.test(hostname);
}

/** `unavailable`, in the words of every request. */
export function noUsableAnswer(url: URL, why: string, hint = ""): AegisError {
  return new AegisError("unavailable", `${url.host} gave no usable answer: ${why}`, hint);
}

type Body = ReadableStream<Uint8Array> | null;

async function readCapped(body: Body, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  // Leaving the loop early cancels the stream.
  for await (const chunk of body ?? []) {
    total += chunk.length;
    if (total > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
}

/** The beginning of a body that may be anything, and may never end. */
async function readOfError(body: Body): Promise<string> {
  const reader = body?.getReader();
  const timer = setTimeout(() => void reader?.cancel(), ERROR_PATIENCE_MS);
  const decoder = new TextDecoder();
  let text = "";
  try {
    while (text.length < MAX_ERROR_BYTES) {
      const next = await reader?.read();
      if (next?.value === undefined) break;
      text += decoder.decode(next.value, { stream: true });
    }
  } catch {
    // The status is known, and says enough.
  } finally {
    clearTimeout(timer);
    await reader?.cancel().catch(() => {});
  }
  return text;
}

/** ofetch wraps what went wrong, and its own message repeats the URL with whatever is in it. */
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
