import { writeSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { anyKeys, parseJson } from "./canonical.ts";
import { REGISTRY_FILES } from "./eco-sandbox.ts";

/*
 * The closed registry: a server on the loopback interface of a sandbox, as a user of its own, that answers with exactly what it was
 * given and with 404 to everything else.
 */

const MAX_PATH = 4096;
/** Distinct paths reported that it lacks. */
const MAX_REPORTED = 50;

const Input = v.strictObject({
  port: v.number(),
  routes: anyKeys(
    v.union([
      v.strictObject({ file: v.string(), type: v.string() }),
      v.strictObject({
        body: v.string(),
        type: v.string(),
        headers: v.optional(anyKeys(v.string())),
      }),
    ]),
  ),
});

/** Serves what standard input describes; prints `ready`, then each path that it lacks, once. Returns when killed. */
export async function serveClosedRegistry(readStdin: () => Promise<string>): Promise<never> {
  const { port, routes } = v.parse(Input, parseJson(await readStdin()));
  const known = new Map(Object.entries(routes));
  const reported = new Set<string>();
  const missing = (path: string) => {
    if (reported.size < MAX_REPORTED && !reported.has(path)) print(path);
    if (reported.size < MAX_REPORTED) reported.add(path);
    return new Response("not in the plan\n", { status: 404 });
  };
  Bun.serve({
    hostname: "127.0.0.1",
    port,
    maxRequestBodySize: 64 * 1024,
    idleTimeout: 60,
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      const whole = `${pathname}${search}`;
      if (whole.length > MAX_PATH) return new Response("too long\n", { status: 414 });
      // A route for another method than GET begins with it.
      const isRead = request.method === "GET" || request.method === "HEAD";
      const named = (path: string) => (isRead ? path : `${request.method} ${path}`);
      // A route may have a query; one without answers any.
      const route =
        known.get(named(decoded(whole))) ?? known.get(named(pathname)) ?? known.get(named(decoded(pathname)));
      if (route === undefined) return missing(named(whole));
      const headers = { "content-type": route.type };
      if ("body" in route) return new Response(route.body, { headers: { ...headers, ...route.headers } });
      return new Response(Bun.file(join(REGISTRY_FILES, route.file)), { headers });
    },
  });
  print("ready");
  return new Promise(() => {});
}

function print(line: string): void {
  writeSync(1, `${line.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?").slice(0, 300)}\n`);
}

/** npm asks for `/@scope%2fname`. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
