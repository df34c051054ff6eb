import { closeSync, openSync } from "node:fs";
import type { Feed } from "./feeds-settings.ts";
import type { IndexDescription } from "./osv-index.ts";
import { VERSION } from "./self.ts";
import { fetchStreamed } from "./sys-fetch.ts";
import { writeFully } from "./sys-files.ts";

/** For one download. The largest has 400 MB. */
const DOWNLOAD_MS = 60 * 60_000;

/** The headers that ask for a file only if it isn't the one an index was made of (RFC 9110, 13.1). */
export function conditionsOf({ etag, last_modified }: IndexDescription): Record<string, string> {
  return {
    ...(etag === "" ? {} : { "if-none-match": etag }),
    ...(last_modified === "" ? {} : { "if-modified-since": last_modified }),
  };
}

/**
 * Downloads a feed to a new file, which stays empty if the server answers 304. `silenceMs`: how long it may say nothing.
 * @throws AegisError `unavailable`; Error for less than was announced; the file system's errors
 */
export async function downloadFeed(
  feed: Pick<Feed, "url" | "limits">,
  path: string,
  unless: Readonly<Record<string, string>>,
  { proxy, silenceMs }: { proxy: string | undefined; silenceMs: number },
): Promise<{ status: number; headers: Headers }> {
  const silence = new AbortController();
  const reason = new Error(`silent for ${silenceMs / 1000} seconds`);
  const timer = setTimeout(() => silence.abort(reason), silenceMs);
  const fd = openSync(path, "wx", 0o600);
  let bytes = 0;
  let unwritable: unknown = null;
  try {
    const request = {
      signal: AbortSignal.any([AbortSignal.timeout(DOWNLOAD_MS), silence.signal]),
      maxBytes: feed.limits.packed,
      headers: { accept: "*/*", "user-agent": `aegis/${VERSION}` },
      redirects: true,
      ...(Object.keys(unless).length === 0 ? {} : { unless }),
      ...(proxy === undefined ? {} : { proxy }),
    };
    const answer = await fetchStreamed(feed.url, request, async (chunk) => {
      timer.refresh();
      bytes += chunk.length;
      try {
        writeFully(fd, chunk);
      } catch (error) {
        unwritable = error;
        throw error;
      }
    });
    const { status, headers } = answer;
    const length = headers.get("content-length");
    const isPlain = headers.get("content-encoding") === null;
    if (status === 200 && isPlain && length !== null && Number(length) !== bytes)
      throw new Error(`${bytes} bytes came where ${length} were announced`);
    return answer;
  } catch (error) {
    // A full disk is not the server's fault.
    throw unwritable ?? error;
  } finally {
    clearTimeout(timer);
    closeSync(fd);
  }
}
