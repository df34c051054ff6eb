import { randomBytes } from "node:crypto";
import { messageOf } from "./errors.ts";
import type { ReadProxy } from "./go-proxy.ts";

/*
 * A module proxy on loopback between the go command of planning and the real proxies. Planning makes the requests, so that
 * credentials, certificates and HTTP proxies stay in this process, that the module graph is computed from the very bytes that were
 * verified, and that every go.mod which it read is known. The address has a random path, since other users can reach the port.
 */

export interface Relay {
  /** For GOPROXY. */
  address: string;
  /** Paths that were found, in the order in which they were asked for. */
  served: string[];
  /** The first request that failed otherwise than by a missing file; the go command tells of it less well. */
  failure: { error: unknown } | null;
  close(): Promise<void>;
}

/** What the go command asks for while it makes a module graph: never a zip file. */
const ASKED = /^[^?#]{1,1024}\/@v\/(?:list|[^/]+\.(?:info|mod))$|^[^?#]{1,1024}\/@latest$/;

/** Starts a relay. Whoever starts it closes it. */
export function startRelay(read: ReadProxy): Relay {
  const secret = randomBytes(24).toString("hex");
  const served = new Set<string>();
  const relay: Relay = {
    ...{ address: "", served: [], failure: null },
    close: () => server.stop(true),
  };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    async fetch(request) {
      const path = decoded(new URL(request.url).pathname);
      const prefix = `/${secret}/`;
      if (request.method !== "GET" || !path.startsWith(prefix)) return new Response(null, { status: 404 });
      const asked = path.slice(prefix.length);
      if (!ASKED.test(asked)) return new Response(null, { status: 404 });
      try {
        const found = await read(asked);
        if (found === null) return new Response("not found", { status: 404 });
        if (!served.has(asked)) relay.served.push(asked);
        served.add(asked);
        return new Response(Buffer.from(found.bytes));
      } catch (error) {
        relay.failure ??= { error };
        return new Response(messageOf(error), { status: 500 });
      }
    },
  });
  relay.address = `http://127.0.0.1:${server.port}/${secret}`;
  return relay;
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return "";
  }
}
