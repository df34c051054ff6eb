import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { queryOsvApi } from "../src/osv-api.ts";
import type { OsvSubject } from "../src/osv-subjects.ts";
import { change, FIXTURES, lines, look, planning } from "./osv-kit.ts";

const OPENSSL = change("openssl", "3.0.11-1", "3.0.12-1");
const NO_DATA = ["new openssl-bin 3.0.12-1 no-data unknown"];
const RECORD = readFileSync(join(FIXTURES, "Debian/DEBIAN-CVE-2023-5678.json"), "utf8");
const ID = "DEBIAN-CVE-2023-5678";

interface Asked {
  queries: { package: { ecosystem: string; name: string }; version: string; page_token?: string }[];
}
type Answer = (path: string, body: Asked | null) => Response | Promise<Response>;

let answer: Answer;
let asked: string[];
let server: ReturnType<typeof Bun.serve>;
let api: string;

beforeEach(() => {
  asked = [];
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const path = new URL(request.url).pathname;
      asked.push(`${request.method} ${path}`);
      return answer(path, request.method === "POST" ? ((await request.json()) as Asked) : null);
    },
  });
  api = `http://127.0.0.1:${server.port}`;
});
afterEach(() => server.stop(true));

/** Lists `ids` for every query, and has one record. */
const naming =
  (...ids: string[]): Answer =>
  (_path, body) =>
    body === null
      ? new Response(RECORD)
      : Response.json({
          results: body.queries.map(() => ({ vulns: ids.map((id) => ({ id, modified: "x" })) })),
        });

const lookUp = (url = api) => look(planning({ AEGIS_OSV_URL: url }), [OPENSSL]);

const UNUSABLE: [string, Answer, string][] = [
  ["status 500", () => new Response("{}", { status: 500 }), "status 500"],
  ["status 204", () => new Response(null, { status: 204 }), "status 204"],
  ["a redirect", () => Response.redirect("/elsewhere", 307), "status 307"],
  ["no JSON", () => new Response("<html>"), "gave no usable answer"],
  ["no UTF-8", () => new Response(new Uint8Array([34, 255, 34])), "gave no usable answer"],
  ["no results", () => Response.json({}), "not one result for each query"],
  ["too few results", () => Response.json({ results: [] }), "not one result for each query"],
  ["a result of another type", () => Response.json({ results: [{ vulns: "none" }, {}] }), "not one result"],
  ["an id that leads elsewhere", naming("../../v1/querybatch"), "not one result for each query"],
  [
    "pages without end",
    (_, b) => Response.json({ results: b?.queries.map(() => ({ next_page_token: "x" })) }),
    "more than 100 pages",
  ],
  ["too many records", naming(...Array.from({ length: 5001 }, (_, i) => `A-${i}`)), "more than 5000 records"],
  ["an answer too large", () => new Response(" ".repeat(33 * 1024 * 1024)), "larger than"],
  [
    "an answer too large when unpacked",
    () =>
      new Response(Bun.gzipSync(Buffer.alloc(33 * 1024 * 1024, 32)), {
        headers: { "content-encoding": "gzip" },
      }),
    "larger than",
  ],
  [
    "the record missing",
    (_p, b) => (b === null ? new Response("", { status: 404 }) : naming(ID)("", b)),
    "status 404",
  ],
];

describe("an API without a usable answer leaves no-data evidence", () => {
  for (const [what, reply, problem] of UNUSABLE) {
    test(what, async () => {
      answer = reply;
      const plan = await lookUp();
      expect(lines(plan)).toEqual(NO_DATA);
      expect(plan.warnings[0]).toContain(problem);
      expect(asked.some((line) => line.endsWith("/elsewhere"))).toBe(false);
    });
  }

  test("a record other than the requested one", async () => {
    answer = naming("CVE-2023-5678");
    const plan = await lookUp();
    expect(lines(plan)).toEqual(NO_DATA);
    expect(plan.warnings[0]).toContain("CVE-2023-5678 is not a record of the package it was listed for");
  });

  test("a record of another package", async () => {
    answer = (path, body) =>
      body === null ? new Response(RECORD.replaceAll("openssl", "other")) : naming(ID)(path, body);
    expect(lines(await lookUp())).toEqual(NO_DATA);
  });

  test("nobody listens", async () => {
    await server.stop(true);
    expect(lines(await lookUp())).toEqual(NO_DATA);
  });

  const STALLS: [string, Answer][] = [
    ["no answer", () => new Promise<Response>(() => {})],
    [
      "an answer that stops",
      () => new Response(new ReadableStream({ start: (c) => c.enqueue(new TextEncoder().encode("{")) })),
    ],
  ];
  for (const [what, reply] of STALLS) {
    test(`the time is limited: ${what}`, async () => {
      answer = reply;
      const subject: OsvSubject = {
        ...{ package: "a", version: "1", appliesTo: "new" },
        ...{ names: ["a"], ecosystems: ["npm"], osvVersion: "1.0.0" },
      };
      await expect(queryOsvApi(new URL(api), [subject], 100)).rejects.toMatchObject({ code: "unavailable" });
    });
  }

  const REFUSED = [
    "x",
    "ftp://127.0.0.1/",
    "file:///etc/passwd",
    "http://192.0.2.1/",
    "https://u:secret@127.0.0.1/",
    "https://127.0.0.1/?key=secret",
  ];
  for (const url of REFUSED) {
    test(`an address that is not used: ${url}`, async () => {
      const plan = await lookUp(url);
      expect(lines(plan)).toEqual(NO_DATA);
      expect(JSON.stringify(plan)).not.toContain("secret");
      expect(plan.warnings[0]).toContain("AEGIS_OSV_URL");
    });
  }
});

describe("an API that answers", () => {
  test("the records it lists are evaluated here", async () => {
    answer = naming(ID);
    const plan = await lookUp();
    expect(lines(plan)).toEqual([
      "both openssl-bin 3.0.12-1 DEBIAN-CVE-2023-5678 medium fixed 3.0.13-1~deb12u1",
    ]);
    expect(plan.vulnerability_evidence[0]).toMatchObject({ data_source: `${api}/`, data_age_days: 0 });
    expect(plan.warnings).toEqual([]);
    expect(asked).toEqual(["POST /v1/querybatch", `GET /v1/vulns/${ID}`]);
  });

  test("it is sent packages and versions, nothing else", async () => {
    let body: Asked | null = null;
    answer = (path, given) => {
      body ??= given;
      return naming()(path, given);
    };
    expect(lines(await lookUp())).toEqual([]);
    const query = (version: string) => ({ package: { ecosystem: "Debian:12", name: "openssl" }, version });
    expect<unknown>(body).toEqual({ queries: [query("3.0.12-1"), query("3.0.11-1")] });
  });

  test("pages are read to the end", async () => {
    answer = (path, body) => {
      if (body === null) return naming()(path, body);
      const page = (token = "") => (token === "" ? { next_page_token: "2" } : { vulns: [{ id: ID }] });
      return Response.json({ results: body.queries.map((query) => page(query.page_token)) });
    };
    expect(lines(await lookUp())).toHaveLength(1);
  });

  test("more than a thousand queries take several requests", async () => {
    answer = naming();
    const many = Array.from({ length: 1100 }, (_, i) => change(`p${i}`, null, "1"));
    const plan = await look(planning({ AEGIS_OSV_URL: api }), many);
    expect(plan.warnings).toEqual([]);
    expect(asked).toHaveLength(2);
  });

  test("below a path", async () => {
    answer = naming();
    for (const base of [`${api}/osv`, `${api}/osv/`]) await lookUp(base);
    expect(asked).toEqual(["POST /osv/v1/querybatch", "POST /osv/v1/querybatch"]);
  });

  test("a directory takes precedence", async () => {
    const plan = await look(planning({ AEGIS_OSV_DIR: FIXTURES, AEGIS_OSV_URL: api }), [OPENSSL]);
    expect(lines(plan)).toHaveLength(1);
    expect(asked).toEqual([]);
  });

  test("a proxy of the environment is not used for loopback", async () => {
    answer = naming(ID);
    const script = `
      const { queryOsvApi } = await import(${JSON.stringify(join(import.meta.dir, "../src/osv-api.ts"))});
      const subject = { names: ["openssl"], ecosystems: ["Debian:12"], osvVersion: "3.0.12-1" };
      console.log((await queryOsvApi(new URL(process.argv[1]), [subject])).records.length);`;
    const proxy = "http://127.0.0.1:1";
    const child = Bun.spawn([process.execPath, "-e", script, api], {
      env: { PATH: process.env.PATH ?? "", HTTP_PROXY: proxy, http_proxy: proxy, ALL_PROXY: proxy },
      stderr: "pipe",
    });
    expect((await new Response(child.stdout).text()).trim()).toBe("1");
  });
});
