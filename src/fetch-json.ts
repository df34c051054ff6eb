import { ofetch } from "ofetch";
import { AegisError, messageOf } from "./errors.ts";

export interface JsonRequest {
  /** Sent as JSON with POST; without it the request is a GET. */
  body?: object;
  /** Ends the request, also while the answer is being read. */
  signal: AbortSignal;
  /** Cap on the answer, unpacked, in bytes. */
  maxBytes: number;
}

/**
 * The JSON that a URL answers with, unparsed by any schema. Redirects are not followed, nothing is tried twice, and a
 * loopback address is never asked through a proxy of the environment.
 * @throws AegisError `unavailable` for no answer, another status than 200, an answer that is too large or not JSON
 */
export async function fetchJson(url: URL, { body, signal, maxBytes }: JsonRequest): Promise<unknown> {
  const options = {
    responseType: "stream" as const,
    redirect: "manual" as const,
    retry: 0 as const,
    ignoreResponseError: true,
    signal,
    headers: { accept: "application/json" },
    ...(body === undefined ? {} : { method: "POST", body }),
    ...(isLoopback(url) ? { proxy: false as const } : {}),
  };
  try {
    const response = await ofetch.raw(url.href, options);
    if (response.status !== 200) throw new Error(`status ${response.status}`);
    return JSON.parse(await readCapped(response.body, maxBytes));
  } catch (error) {
    const timedOut = signal.aborted && messageOf(signal.reason) !== "";
    throw new AegisError(
      "unavailable",
      `${url.host} gave no usable answer: ${timedOut ? messageOf(signal.reason) : reasonOf(error)}`,
    );
  }
}

/** True for an address of this machine, where plain HTTP is as good as HTTPS. */
export function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d+){3}$/.test(hostname);
}

async function readCapped(body: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of body ?? []) {
    total += chunk.length;
    if (total > maxBytes) throw new Error(`the answer is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
}

/** ofetch wraps what went wrong, and its own message repeats the URL with whatever is in it. */
function reasonOf(error: unknown): string {
  return messageOf(error instanceof Error && error.cause !== undefined ? error.cause : error);
}
