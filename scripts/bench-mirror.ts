/*
 * The public registries on loopback: fetched once, answered from memory from then on.
 */

/** By the first part of the path here. */
const UPSTREAMS: Readonly<Record<string, string>> = {
  npm: "https://registry.npmjs.org",
  pypi: "https://pypi.org",
  files: "https://files.pythonhosted.org",
  go: "https://proxy.golang.org",
  crates: "https://index.crates.io",
  crate: "https://static.crates.io",
};

export interface Mirror {
  address(registry: string): string;
  stop(): Promise<void>;
}

interface Answer {
  status: number;
  type: string;
  body: ArrayBuffer | string;
}

/** Starts a mirror. Whoever starts it stops it. */
export function startMirror(): Mirror {
  const known = new Map<string, Promise<Answer>>();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 255,
    async fetch(request) {
      const { pathname, search, origin } = new URL(request.url);
      const [, registry = "", path = ""] = /^\/([a-z]+)(\/.*)$/.exec(pathname) ?? [];
      const upstream = UPSTREAMS[registry];
      if (upstream === undefined || request.method !== "GET") return new Response(null, { status: 404 });
      const accept = request.headers.get("accept") ?? "*/*";
      const key = `${registry} ${path}${search} ${accept}`;
      const answer = known.get(key) ?? ask(`${upstream}${path}${search}`, accept, origin);
      known.set(key, answer);
      const { status, type, body } = await answer;
      return new Response(body, { status, headers: { "content-type": type } });
    },
  });
  return { address: (registry) => `${server.url.origin}/${registry}`, stop: () => server.stop(true) };
}

/** Addresses of other registries in an index become ours; package files and go.mod files stay as they are. */
async function ask(url: string, accept: string, origin: string): Promise<Answer> {
  const response = await fetch(url, { headers: { accept } });
  const type = response.headers.get("content-type") ?? "application/octet-stream";
  const { status } = response;
  if (!/json|html/.test(type)) return { status, type, body: await response.arrayBuffer() };
  let body = await response.text();
  for (const [registry, address] of Object.entries(UPSTREAMS))
    for (const written of [`${address}:443`, address])
      body = body.replaceAll(written, `${origin}/${registry}`);
  return { status, type, body };
}
