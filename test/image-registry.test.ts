import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { image } from "../src/image.ts";
import { imageAccess } from "../src/image-config.ts";
import { normalizeReference } from "../src/image-reference.ts";
import { makePlan } from "../src/plan.ts";
import { registryAccess } from "../src/plan-registry.ts";
import { AMD64, fakeImage, fakeIndex, imagePlanning } from "./image-kit.ts";

/*
 * Registries on this machine, asked over real connections: who they let in, where they send, and what they send.
 */

const IMAGE = fakeImage();
const INDEX = fakeIndex([[IMAGE, AMD64]]);
const [CONFIGURATION = ""] = [...IMAGE.blobs.keys()];
const cache = mkdtempSync(join(tmpdir(), "aegis-image-"));
afterAll(() => rmSync(cache, { recursive: true }));

interface Seen {
  url: string;
  authorization: string;
}

/** A server that is stopped when the test is over. `answer` may leave a request to the registry of {@link IMAGE}. */
function serve(answer: (request: Request, url: URL) => Response | undefined = () => undefined) {
  const seen: Seen[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      const url = new URL(request.url);
      seen.push({
        url: url.pathname + url.search,
        authorization: request.headers.get("authorization") ?? "",
      });
      return answer(request, url) ?? registry(url);
    },
  });
  return {
    seen,
    host: `127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

function registry({ pathname }: URL): Response {
  const name = pathname.replace(/^\/v2\/a\/b\/(?:manifests|blobs)\//, "");
  const found: Record<string, string> = {
    [INDEX.digest]: INDEX.bytes,
    latest: INDEX.bytes,
    [IMAGE.digest]: IMAGE.bytes,
  };
  const body = found[name] ?? IMAGE.blobs.get(name);
  return body === undefined
    ? new Response("{}", { status: 404 })
    : new Response(typeof body === "string" ? body : new Uint8Array(body));
}

let serial = 0;
/** A plan of the image on a host, with a cache of its own. */
async function planOn(host: string, given: Parameters<typeof imagePlanning>[1] = {}, digest = INDEX.digest) {
  const planning = { ...imagePlanning({}, given), ...registryAccess(join(cache, String(serial++))) };
  const plan = await makePlan(image, "pull", [`${host}/a/b@${digest}`], planning);
  return { plan, said: plan.warnings.join("\n") };
}

const basic = (pair: string) => `Basic ${Buffer.from(pair).toString("base64")}`;
const loggedIn = (host: string, pair: string) => ({
  files: {
    "/home/u/.docker/config.json": JSON.stringify({
      auths: { [host]: { auth: Buffer.from(pair).toString("base64") } },
    }),
  },
});

test("a registry on this machine is asked without encryption, another one never", async () => {
  await using server = serve();
  expect((await planOn(server.host)).plan.metadata_available).toBe(true);
  const { requests, ...planning } = imagePlanning({});
  await makePlan(image, "pull", ["registry.example:80/a/b:1"], planning).catch(() => {});
  expect(requests.map(({ url }) => url.slice(0, 30))).toEqual(["https://registry.example:80/v2"]);
});

describe("who is let in", () => {
  /** A registry behind tokens that `server` itself gives out to whoever may have one. */
  const guarded = (
    allow: (authorization: string) => boolean,
    token: unknown = { token: "t0k3n", expires_in: 300 },
  ) => {
    const server = serve((request, url) => {
      const authorization = request.headers.get("authorization") ?? "";
      if (url.pathname === "/token")
        return allow(authorization) ? Response.json(token) : new Response("no", { status: 401 });
      if (authorization === "Bearer t0k3n") return undefined;
      const challenge = `Bearer realm="http://${server.host}/token",service="ours, only",scope="repository:other:push"`;
      return new Response("", { status: 401, headers: { "www-authenticate": challenge } });
    });
    return server;
  };

  test("a token for everybody; one is enough for all files, and it is for reading this repository", async () => {
    await using server = guarded(() => true);
    expect((await planOn(server.host)).plan.metadata_available).toBe(true);
    const asked = server.seen.filter(({ url }) => url.startsWith("/token"));
    expect(asked).toEqual([
      { url: "/token?service=ours%2C+only&scope=repository%3Aa%2Fb%3Apull", authorization: "" },
    ]);
  });

  test("a token for the password of `docker login`, which only the giver of tokens gets", async () => {
    await using server = guarded((authorization) => authorization === basic("u:p:with:colons"));
    const { plan } = await planOn(server.host, loggedIn(server.host, "u:p:with:colons"));
    expect(plan.metadata_available).toBe(true);
    expect(JSON.stringify(plan)).not.toContain("colons");
    const toOthers = server.seen.filter(({ url }) => !url.startsWith("/token"));
    expect(new Set(toOthers.map(({ authorization }) => authorization))).toEqual(
      new Set(["", "Bearer t0k3n"]),
    );
  });

  test("access_token stands in for token", async () => {
    await using server = guarded(() => true, { access_token: "t0k3n" });
    expect((await planOn(server.host)).plan.metadata_available).toBe(true);
  });

  test("a token that has run out is fetched again", async () => {
    await using server = guarded(() => true, { token: "t0k3n", expires_in: 0 });
    // Planning treats it as good for a second, so it is enough that the plan is whole.
    expect((await planOn(server.host)).plan.metadata_available).toBe(true);
  });

  test("a password over basic authentication", async () => {
    await using server = serve((request) =>
      request.headers.get("authorization") === basic("u:p")
        ? undefined
        : new Response("", { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } }),
    );
    expect((await planOn(server.host, loggedIn(server.host, "u:p"))).plan.metadata_available).toBe(true);
    const { said } = await planOn(server.host);
    expect(said).toContain("status 401: without a password, there is no such image or no access to it");
    expect(said).toContain("docker login or podman login");
  });

  test("the wrong password: refused, and not tried over and over", async () => {
    await using server = guarded((authorization) => authorization === basic("u:p"));
    const { plan, said } = await planOn(server.host, loggedIn(server.host, "u:wrong"));
    expect(plan.metadata_available).toBe(false);
    expect(said).toContain("status 401: with the password that is configured, there is no such image");
    expect(said).not.toContain("wrong");
    expect(server.seen).toHaveLength(2);
  });

  test.each([
    ["no token", { hello: 1 }],
    ["an empty one", { token: "" }],
    ["one with a line break", { token: "a\r\nx-evil: 1" }],
    ["no JSON", "nonsense"],
  ])("%s", async (_, token) => {
    await using server = guarded(() => true, token);
    expect((await planOn(server.host)).said).toContain("it sent no token");
  });

  test.each([
    ["without encryption elsewhere", 'Bearer realm="http://auth.example/token"', "neither https nor"],
    ["by a file", 'Bearer realm="file:///etc/passwd"', "neither https nor"],
    ["nowhere", "Bearer", "doesn't say who gives out tokens"],
    ["by another scheme", 'Negotiate realm="https://x.example/"', "doesn't say who gives out tokens"],
    ["by nothing", "", "doesn't say who gives out tokens"],
  ])("tokens that are given out %s", async (_, challenge, why) => {
    await using server = serve(
      () =>
        new Response("", { status: 401, headers: challenge === "" ? {} : { "www-authenticate": challenge } }),
    );
    const { said } = await planOn(server.host, loggedIn(server.host, "u:p"));
    expect(said).toContain(why);
    expect(server.seen.map(({ authorization }) => authorization)).toEqual([""]);
  });

  test("a registry elsewhere can't send a password to this machine", async () => {
    const challenge = 'Bearer realm="http://127.0.0.1:1/token"';
    const planning = imagePlanning(
      {
        "https://registry.example/v2/a/b/manifests/1": {
          status: 401,
          headers: { "www-authenticate": challenge },
        },
      },
      loggedIn("registry.example", "u:p"),
    );
    const plan = await makePlan(image, "pull", ["registry.example/a/b:1"], planning);
    expect(plan.warnings.join("\n")).toContain("neither https nor, as itself, on this machine");
    expect(planning.requests).toHaveLength(1);
  });
});

describe("a registry that refuses", () => {
  test("too many requests: how long to wait", async () => {
    await using server = serve(() => new Response("", { status: 429, headers: { "retry-after": "77" } }));
    const { plan, said } = await planOn(server.host);
    expect(plan.metadata_available).toBe(false);
    expect(said).toContain("status 429: too many requests; it asks to wait for 77 seconds");
  });
  test("too many requests, with nonsense", async () => {
    await using server = serve(
      () => new Response("", { status: 429, headers: { "retry-after": "\u00a0soon" } }),
    );
    expect((await planOn(server.host)).said).toContain("it asks to wait for a while");
  });
  test.each([500, 302, 204])("status %i", async (status) => {
    await using server = serve(
      () => new Response(null, { status, headers: status === 302 ? { location: "https://x.example/" } : {} }),
    );
    const { said } = await planOn(server.host);
    expect(said).toContain(`status ${status}`);
    if (status === 302) expect(said).toContain("not followed for manifests");
  });
});

describe("where files are sent", () => {
  /** A registry whose blobs are at `location`. */
  const sending = (location: (path: string) => string) => {
    const server = serve((_, url) => {
      if (!url.pathname.includes("/blobs/")) return undefined;
      return new Response("", { status: 307, headers: { location: location(url.pathname) } });
    });
    return server;
  };
  const password = { "www-authenticate": 'Basic realm="x"' };

  test("a storage on another host: followed, without the password", async () => {
    await using storage = serve();
    await using server = serve((request, url) => {
      if (request.headers.get("authorization") !== basic("u:p"))
        return new Response("", { status: 401, headers: password });
      if (!url.pathname.includes("/blobs/")) return undefined;
      return new Response("", {
        status: 307,
        headers: { location: `http://${storage.host}${url.pathname}?signed=1` },
      });
    });
    const { plan } = await planOn(server.host, loggedIn(server.host, "u:p"));
    expect(plan.metadata_available).toBe(true);
    expect(storage.seen.map(({ authorization }) => authorization)).toEqual([""]);
    expect(plan.transaction.map(({ url }) => new URL(url ?? "").host)).toEqual(Array(4).fill(server.host));
  });
  test("another file there: refused by its digest", async () => {
    await using storage = serve(() => new Response("x".repeat(200)));
    await using server = sending((path) => `http://${storage.host}${path}`);
    expect((await planOn(server.host)).said).toContain("a file that doesn't match its metadata");
  });
  test.each([
    ["http://storage.example/x", "status 307"],
    ["file:///etc/passwd", "status 307"],
    ["gopher:x", "status 307"],
    ["", "status 307"],
  ])("%p is not followed", async (location, why) => {
    await using server = sending(() => location);
    const { plan, said } = await planOn(server.host);
    expect(plan.metadata_available).toBe(false);
    expect(said).toContain(why);
  });
  test("in a circle: given up", async () => {
    await using server = sending((path) => path);
    expect((await planOn(server.host)).said).toContain("status 307");
    expect(server.seen.filter(({ url }) => url.includes("/blobs/")).length).toBeLessThanOrEqual(4);
  });
});

describe("what is sent", () => {
  const endless = () => {
    let sent = 0;
    const chunk = new Uint8Array(64 * 1024);
    const body = new ReadableStream({
      pull(controller) {
        sent += chunk.length;
        // Ten gigabytes, for whoever reads on.
        if (sent > 10 * 1024 ** 3) controller.close();
        else controller.enqueue(chunk);
      },
    });
    return { body, sent: () => sent };
  };

  test("a configuration of 10 GB: the reading ends where its size was stated", async () => {
    const flood = endless();
    await using server = serve((_, url) =>
      url.pathname.endsWith(CONFIGURATION) ? new Response(flood.body) : undefined,
    );
    const { plan, said } = await planOn(server.host);
    expect(plan.metadata_available).toBe(false);
    expect(said).toContain(`larger than ${IMAGE.blobs.get(CONFIGURATION)?.length} bytes`);
    expect(flood.sent()).toBeLessThan(64 * 1024 * 1024);
    expect(readdirSync(cache)).not.toContain(String(serial - 1));
  });
  test("a manifest of 10 GB", async () => {
    const flood = endless();
    await using server = serve(() => new Response(flood.body));
    expect((await planOn(server.host)).said).toContain("larger than 4194304 bytes");
    expect(flood.sent()).toBeLessThan(64 * 1024 * 1024);
  });
  test("less than was stated", async () => {
    await using server = serve((_, url) =>
      url.pathname.endsWith(CONFIGURATION) ? new Response("{}") : undefined,
    );
    expect((await planOn(server.host)).said).toContain("doesn't match its metadata");
  });
});

describe("whose password", () => {
  const auth = Buffer.from("u:p").toString("base64");
  const access = (name: string, files: Record<string, object | string>, env: Record<string, string> = {}) => {
    const texts = Object.entries(files).map(([path, file]) => [
      path,
      typeof file === "string" ? file : JSON.stringify(file),
    ]);
    return imageAccess(normalizeReference(name), {
      env: { HOME: "/home/u", ...env },
      readText: (path) => Object.fromEntries(texts)[path] ?? null,
      list: (path) => (path === "/etc/docker/certs.d/r.example" ? ["ca.crt", "client.key"] : []),
    });
  };
  const DOCKER = "/home/u/.docker/config.json";

  const CASES: [string, string, Record<string, object>, Record<string, string>, boolean][] = [
    [
      "Docker Hub by its old name",
      "debian",
      { [DOCKER]: { auths: { "https://index.docker.io/v1/": { auth } } } },
      {},
      true,
    ],
    ["Docker Hub by its new name", "debian", { [DOCKER]: { auths: { "docker.io": { auth } } } }, {}, true],
    [
      "Docker Hub's is for no other",
      "ghcr.io/a/b",
      { [DOCKER]: { auths: { "docker.io": { auth } } } },
      {},
      false,
    ],
    ["the host", "ghcr.io/a/b", { [DOCKER]: { auths: { "https://ghcr.io/": { auth } } } }, {}, true],
    ["a namespace", "ghcr.io/a/b", { [DOCKER]: { auths: { "ghcr.io/a": { auth } } } }, {}, true],
    ["another namespace", "ghcr.io/ab/c", { [DOCKER]: { auths: { "ghcr.io/a": { auth } } } }, {}, false],
    ["another port", "ghcr.io:444/a/b", { [DOCKER]: { auths: { "ghcr.io": { auth } } } }, {}, false],
    [
      "name and password apart",
      "ghcr.io/a/b",
      { [DOCKER]: { auths: { "ghcr.io": { username: "u", password: "p" } } } },
      {},
      true,
    ],
    [
      "podman's file in the run-time directory",
      "ghcr.io/a/b",
      { "/run/user/1/containers/auth.json": { auths: { "ghcr.io": { auth } } } },
      { XDG_RUNTIME_DIR: "/run/user/1" },
      true,
    ],
    [
      "a file that is named instead of all others",
      "ghcr.io/a/b",
      { [DOCKER]: { auths: { "ghcr.io": { auth } } }, "/etc/x.json": {} },
      { REGISTRY_AUTH_FILE: "/etc/x.json" },
      false,
    ],
    ["null", "ghcr.io/a/b", { [DOCKER]: { auths: { "ghcr.io": null } } }, {}, false],
    ["an empty entry", "ghcr.io/a/b", { [DOCKER]: { auths: { "ghcr.io": {} } } }, {}, false],
  ];
  test.each(CASES)("%s", (_, name, files, env, isFound) => {
    expect(access(name, files, env).authorization).toBe(isFound ? basic("u:p") : null);
  });

  test.each([
    [
      "a helper for all",
      { credsStore: "secretservice" },
      "to a helper (secretservice), which planning doesn't run",
    ],
    ["a helper for one", { credHelpers: { "ghcr.io": "ecr-login" } }, "to a helper (ecr-login)"],
    ["an identity token", { auths: { "ghcr.io": { identitytoken: "x" } } }, "has an identity token"],
    [
      "an identity token beside its stand-in",
      { auths: { "ghcr.io": { auth: Buffer.from("<token>:x").toString("base64"), identitytoken: "x" } } },
      "has an identity token",
    ],
  ])("%s: said", (_, file, said) => {
    const { authorization, notes } = access("ghcr.io/a/b", { [DOCKER]: file });
    expect(authorization).toBeNull();
    expect(notes.join("\n")).toContain(said);
  });

  test.each([
    ["no JSON", "hunter2"],
    ["another form", { auths: { "ghcr.io": "hunter2" } }],
    ["no pair", { auths: { "ghcr.io": { auth: Buffer.from("hunter2").toString("base64") } } }],
  ])("%s: refused, without a word of it", (_, file) => {
    expect(() => access("ghcr.io/a/b", { [DOCKER]: file })).toThrow(DOCKER);
    expect(() => access("ghcr.io/a/b", { [DOCKER]: file })).not.toThrow("hunter2");
  });

  test("a named file that can't be read is said", () =>
    expect(access("ghcr.io/a/b", {}, { REGISTRY_AUTH_FILE: "/etc/x.json" }).notes.join("")).toContain(
      "/etc/x.json",
    ));

  test("certificates for a registry, as Docker's engine finds them", () =>
    expect(access("r.example/a", { "/etc/docker/certs.d/r.example/ca.crt": "PEM" }).certificates).toBe(
      "PEM",
    ));
});
