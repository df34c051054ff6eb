import type { IndexFile } from "./apt-repositories.ts";
import { parseAptDump, type Settings } from "./apt-settings.ts";
import type { AptSource } from "./apt-source.ts";
import { listFileName } from "./apt-uri.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError, messageOf } from "./errors.ts";

/*
 * The index of a repository that apt doesn't know yet, by GET, through apt's own proxy.
 */

/** A Release file of the largest archives has a few megabytes. */
const MAX_INDEX = 16 << 20;

/** The fetched files, and why some weren't. */
export interface Indexes {
  file: IndexFile;
  warnings: string[];
  access: RepositoryAccess;
}

/** GET of a file of a repository, through apt's proxy; null for a status other than 200. @throws AegisError as `Planning.get` */
export interface RepositoryAccess {
  get(url: URL, maxBytes: number): Promise<Uint8Array | null>;
}

/** Fetches InRelease of each source, or Release with its detached signature. A failure is a warning: apt will say the same later. */
export async function fetchIndexes(
  sources: readonly AptSource[],
  dump: string,
  planning: Planning,
): Promise<Indexes> {
  const files = new Map<string, { path: string; text: string }>();
  const warnings: string[] = [];
  const proxies = settingsOf(dump);
  const keyOf = (source: AptSource, name: string) => listFileName(source, name);
  const answerTo = (url: URL, maxBytes: number) => {
    const proxy = proxyOf(url, proxies);
    return planning.get(url, { maxBytes, ...(proxy === null ? {} : { proxy }) });
  };
  const fetchOne = async (source: AptSource, name: string): Promise<string | null> => {
    const url = indexUrl(source, name);
    const { status, bytes } = await answerTo(url, MAX_INDEX);
    if (status !== 200) return `${url.href} answers with status ${status}`;
    const text = new TextDecoder().decode(bytes);
    files.set(keyOf(source, name), { path: planning.temporary(name, bytes), text });
    return null;
  };
  await Promise.all(
    sources.map(async (source) => {
      try {
        const missing = await fetchOne(source, "InRelease");
        if (missing === null) return;
        if ((await fetchOne(source, "Release")) === null) await fetchOne(source, "Release.gpg");
        else warnings.push(missing);
      } catch (error) {
        if (!(error instanceof AegisError)) throw error;
        warnings.push(messageOf(error));
      }
    }),
  );
  return {
    file: (source, name) => files.get(keyOf(source, name)) ?? null,
    access: {
      async get(url, maxBytes) {
        const { status, bytes } = await answerTo(url, maxBytes);
        return status === 200 ? bytes : null;
      },
    },
    // In apt's form, so that they may differ between user and root.
    warnings: warnings.sort().map((text) => `W: ${text}`),
  };
}

/** Where apt fetches a file of the index (constructMetaIndexURI, apt-pkg/deb/debmetaindex.cc). */
export function indexUrl({ uri, suite }: AptSource, name: string): URL {
  const directory = suite === "/" ? "" : suite.endsWith("/") ? suite : `dists/${suite}/`;
  return new URL(`${uri}/${directory}${name}`);
}

function settingsOf(dump: string): Settings {
  try {
    return parseAptDump(dump);
  } catch (error) {
    if (error instanceof AegisError) return new Map();
    throw error;
  }
}

/** apt's proxy for an address (apt-transport-http(1)): of the host, else of the scheme; https takes http's. Null for none. */
function proxyOf({ protocol, hostname }: URL, settings: Settings): string | null {
  const scalar = (key: string) =>
    [...settings].find(([name]) => name.toLowerCase() === key.toLowerCase())?.[1].at(-1) ?? "";
  const schemes = protocol === "https:" ? ["https", "http"] : ["http"];
  for (const key of schemes.flatMap((one) => [
    `Acquire::${one}::Proxy::${hostname}`,
    `Acquire::${one}::Proxy`,
  ])) {
    const value = scalar(key);
    if (value.toUpperCase() === "DIRECT") return null;
    if (/^https?:\/\//.test(value)) return value;
  }
  return null;
}
