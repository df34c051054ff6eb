import * as v from "valibot";
import { anyKeys, parseJson } from "./canonical.ts";
import { FRAME, frameHeader } from "./eco-fetch-frames.ts";
import { requestLine, writeBlocking } from "./eco-sandbox.ts";
import { messageOf } from "./errors.ts";
import { fetchStreamed } from "./sys-fetch.ts";

/*
 * The unprivileged half of fetching. It downloads what it is told to, and hands the bytes to root's process over its standard
 * output. It has no file to write to and nothing to decide: root counts and hashes.
 */

/** Downloads at a time. */
const CONCURRENCY = 8;
const MAX_CHUNK = 64 * 1024;

const texts = anyKeys(v.string());
const Way = v.strictObject({
  headers: v.optional(texts),
  proxy: v.optional(v.string()),
  certificates: v.optional(v.string()),
  redirects: v.optional(v.boolean()),
});
const Input = v.pipe(
  v.strictObject({
    ways: v.array(Way),
    files: v.array(v.strictObject({ url: v.pipe(v.string(), v.url()), size: v.number(), way: v.number() })),
  }),
  v.check(({ ways, files }) => files.every(({ way }) => ways[way] !== undefined), "a file has no way"),
);

/** Downloads the list on standard input. The first failure is reported as a frame, and ends it. Never returns. */
export async function runFetchWorker(): Promise<never> {
  const { ways, files } = v.parse(Input, parseJson(await requestLine()));
  const queue = [...files.entries()];
  const stop = new AbortController();
  const work = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [index, { url, size, way }] = next;
      try {
        await fetchOne(index, { url, size, ...ways[way] }, stop.signal);
      } catch (error) {
        if (!stop.signal.aborted) write(index, FRAME.failed, Buffer.from(messageOf(error).slice(0, 2000)));
        stop.abort(new Error("another download failed"));
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  process.exit(0);
}

type Download = { url: string; size: number } & v.InferOutput<typeof Way>;

async function fetchOne(index: number, download: Download, signal: AbortSignal): Promise<void> {
  const { url, size, headers, proxy, certificates, redirects = false } = download;
  const request = {
    headers: { accept: "*/*", ...headers },
    signal,
    // One more than there should be, so that root sees that it is too much.
    maxBytes: size + 1,
    redirects,
    ...(proxy === undefined ? {} : { proxy }),
    ...(certificates === undefined ? {} : { certificates }),
  };
  await fetchStreamed(new URL(url), request, async (chunk) => {
    for (let at = 0; at < chunk.length; at += MAX_CHUNK)
      write(index, FRAME.data, chunk.subarray(at, at + MAX_CHUNK));
  });
  write(index, FRAME.end, new Uint8Array(0));
}

/** Blocks while root's process is behind, which also slows the downloads down. */
function write(index: number, kind: number, data: Uint8Array): void {
  writeBlocking(1, Buffer.concat([frameHeader(index, kind, data.length), data]));
}
