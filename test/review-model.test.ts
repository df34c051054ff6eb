import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { VERDICT_JSON_SCHEMA } from "../src/doc-verdict.ts";
import { AegisError } from "../src/errors.ts";
import { askModel, listModels } from "../src/review-model.ts";
import { readModelSettings } from "../src/review-settings.ts";
import {
  answers,
  type Behaviour,
  breaksOff,
  completion,
  drips,
  endless,
  eventStream,
  fails,
  hangs,
  hangsMidBody,
  html,
  type ModelServer,
  redirects,
  refusesFormat,
  says,
  startModelServer,
  thinks,
} from "./model-server.ts";

const KEY = "sk-hunter2";
const MESSAGES = [
  { role: "system", content: "s" },
  { role: "user", content: "u" },
] as const;

let server: ModelServer;
beforeEach(() => {
  server = startModelServer();
});
afterEach(() => server.stop());

const settings = (env: Record<string, string> = {}) =>
  readModelSettings({ AEGIS_AI_BASE_URL: server.url, AEGIS_AI_API_KEY: KEY, ...env });
const ask = (env = {}, signal = new AbortController().signal) => askModel(MESSAGES, settings(env), signal);

async function failure(asking: Promise<unknown>): Promise<AegisError> {
  const error = await asking.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof AegisError)) throw new Error(`no AegisError: ${error}`);
  expect(error.exit).toBe(8);
  expect(error.message).toContain(new URL(server.url).host);
  expect(error.message + error.hint + JSON.stringify(error.details)).not.toContain(KEY);
  return error;
}

const headers = (type: string, body = "{}") => new Response(body, { headers: { "content-type": type } });
const UNUSABLE: [string, Behaviour, string, number][] = [
  ["500", fails(500), "status 500: made to fail with 500", 1],
  ["500 without a word", () => new Response("", { status: 500 }), "status 500", 1],
  ["502 with a page", () => new Response("<html>", { status: 502 }), "status 502", 1],
  ["429", fails(429, "slow down"), "status 429: slow down", 1],
  ["401 that repeats the key", fails(401, `bad key ${KEY}`), "status 401: bad key (key)", 1],
  ["404 as Ollama words it", fails(404, 'model "x" not found, try pulling it first'), "try pulling it", 3],
  ["400 as FastAPI words it", () => Response.json({ detail: "no" }, { status: 400 }), "status 400: no", 3],
  ["an error of many words", fails(503, "x ".repeat(10_000)), `${"x ".repeat(150)}…`, 1],
  ["204", () => new Response(null, { status: 204 }), "status 204", 1],
  ["a redirect", redirects("/v1/elsewhere"), "status 307; redirects are not followed", 1],
  ["a redirect after a POST", redirects("/v1/elsewhere", 303), "redirects are not followed", 1],
  ["a page", html, "content type text/html instead of JSON", 1],
  ["a type that repeats the key", () => headers(`text/html; key=${KEY}`), "text/html; key=(key)", 1],
  ["text", () => headers("text/plain"), "content type text/plain", 1],
  ["bytes", () => new Response(new Uint8Array([123, 125])), "content type application/octet-stream", 1],
  ["a stream of events", eventStream, "content type text/event-stream, a stream, which was not requested", 1],
  ["no JSON", answers("<html>"), "it is not JSON", 1],
  ["half of it", answers(completion({ content: "x" }).slice(0, -5)), "it is not JSON", 1],
  ["nothing", answers(""), "it is not JSON", 1],
  ["brackets without end", answers("[".repeat(4_000_000)), "it is not JSON", 1],
  ["a connection that is cut", breaksOff, "the connection was cut", 1],
  ["an endless body", endless, "larger than 4194304 bytes", 1],
  ["a huge body", answers(`{"x":"${"x".repeat(5_000_000)}"}`), "larger than 4194304 bytes", 1],
  [
    "a huge body when unpacked",
    () =>
      new Response(Bun.gzipSync(Buffer.alloc(5_000_000, 32)), {
        headers: { "content-encoding": "gzip", "content-type": "application/json" },
      }),
    "larger than 4194304 bytes",
    1,
  ],
  [
    "bytes that are no UTF-8",
    () => new Response(new Uint8Array([34, 255, 34]), { headers: { "content-type": "application/json" } }),
    "gave no usable answer",
    1,
  ],
];

describe("unusable answers", () => {
  for (const [what, behaviour, message, requests] of UNUSABLE) {
    test(what, async () => {
      server.behave(behaviour);
      const error = await failure(ask());
      expect(error.code).toBe("unavailable");
      expect(error.message).toContain(message);
      expect(server.asked.length).toBe(requests);
    });
  }

  test("nothing listens", async () => {
    server.stop();
    expect((await failure(ask())).message).toContain("connection refused");
  });

  test("a redirect is not followed", async () => {
    using other = startModelServer();
    server.behave(redirects(`${other.url}/chat/completions`, 308));
    await failure(ask());
    expect(other.asked).toEqual([]);
  });
});

const SILENT: [string, Behaviour][] = [
  ["before the headers", hangs],
  ["within the body", hangsMidBody],
  ["drop by drop", drips(completion({ content: "x".repeat(1000) }), 50, 1)],
];
describe("time limits", () => {
  for (const [what, behaviour] of SILENT) {
    test(what, async () => {
      server.behave(behaviour);
      const error = await failure(ask({ AEGIS_AI_REVIEW_TIMEOUT_SECS: "1" }));
      expect(error).toMatchObject({ code: "timeout" });
      expect(error.message).toContain("within 1 s");
      expect(error.hint).toContain("AEGIS_AI_REVIEW_TIMEOUT_SECS");
    });
  }

  test("one limit covers all response formats", async () => {
    server.behave(refusesFormat(["json_schema"], hangs));
    expect(await failure(ask({ AEGIS_AI_REVIEW_TIMEOUT_SECS: "1" }))).toMatchObject({ code: "timeout" });
    expect(server.asked.length).toBe(2);
  });

  test("of the list of models", async () => {
    server.stop();
    server = startModelServer([hangs], []);
    const asking = listModels(settings({ AEGIS_AI_MODELS_TIMEOUT_SECS: "1" }), new AbortController().signal);
    expect((await failure(asking)).hint).toContain("AEGIS_AI_MODELS_TIMEOUT_SECS");
  });
});

describe("a caller that aborts", () => {
  for (const [what, behaviour] of SILENT) {
    test(what, async () => {
      server.behave(behaviour);
      const controller = new AbortController();
      const asking = failure(ask({}, controller.signal));
      while (server.asked.length === 0) await Bun.sleep(1);
      controller.abort();
      expect(await asking).toMatchObject({ code: "unavailable" });
      while (server.open > 0) await Bun.sleep(1);
    });
  }

  test("gets its own reason", async () => {
    server.behave(hangs);
    const controller = new AbortController();
    const asking = ask({}, controller.signal);
    const reason = new AegisError("busy", "enough");
    controller.abort(reason);
    expect(await asking.catch((error: unknown) => error)).toBe(reason);
  });

  test("before the request", async () => {
    await failure(ask({}, AbortSignal.abort()));
    expect(server.asked).toEqual([]);
  });
});

describe("the request", () => {
  test("follows the API", async () => {
    expect(await ask()).toContain("chat.completion");
    const [asked] = server.asked;
    expect(asked).toMatchObject({ method: "POST", path: "/v1/chat/completions" });
    expect(asked?.headers.get("authorization")).toBe(`Bearer ${KEY}`);
    expect(asked?.headers.get("content-type")).toBe("application/json");
    expect(asked?.body).toEqual({
      model: "deepseek-v4-flash",
      messages: MESSAGES,
      temperature: 0,
      max_tokens: 4096,
      stream: false,
      response_format: {
        type: "json_schema",
        json_schema: { name: "review", strict: true, schema: VERDICT_JSON_SCHEMA },
      },
    });
  });

  test("has no key if none is set", async () => {
    await ask({ AEGIS_AI_API_KEY: "" });
    expect(server.asked[0]?.headers.has("authorization")).toBe(false);
  });

  const formats = () =>
    server.asked.map(
      ({ body }) => (body as { response_format?: { type: string } }).response_format?.type ?? "",
    );
  for (const status of [400, 404, 415, 422, 501]) {
    test(`drops a response format that is refused with ${status}`, async () => {
      server.behave(refusesFormat(["json_schema"], says("{}"), status));
      await ask();
      expect(formats()).toEqual(["json_schema", "json_object"]);
    });
  }

  test("drops every response format that is refused", async () => {
    server.behave(refusesFormat(["json_schema", "json_object"], says("{}")));
    await ask();
    expect(formats()).toEqual(["json_schema", "json_object", ""]);
  });

  test("has no response format with AEGIS_AI_RESPONSE_FORMAT_JSON=0", async () => {
    await ask({ AEGIS_AI_RESPONSE_FORMAT_JSON: "0" });
    expect(formats()).toEqual([""]);
  });
});

describe("an answer", () => {
  for (const type of ["application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json"]) {
    test(`of type ${type}`, async () => {
      server.behave(() => headers(type));
      expect(await ask()).toBe("{}");
    });
  }

  test("that arrives slowly", async () => {
    const body = completion({ content: "é".repeat(100) });
    server.behave(drips(body, 1, 7));
    expect(await ask()).toBe(body);
  });

  test("from localhost", async () => {
    expect(await ask({ AEGIS_AI_BASE_URL: server.url.replace("127.0.0.1", "localhost") })).toContain(
      "choices",
    );
  });
});

describe("the models", () => {
  test("are listed", async () => {
    server.stop();
    server = startModelServer(undefined, ["a", "b/c:d"]);
    expect(await listModels(settings(), new AbortController().signal)).toEqual(["a", "b/c:d"]);
    expect(server.asked[0]).toMatchObject({ method: "GET", path: "/v1/models" });
    expect(server.asked[0]?.headers.get("authorization")).toBe(`Bearer ${KEY}`);
  });

  const NO_LIST: [string, Behaviour][] = [
    ["an object of another kind", answers("{}")],
    ["names that are none", answers('{"data":[{"id":1}]}')],
    ["null", answers("null")],
    ["500", fails(500)],
    ["a page", html],
  ];
  for (const [what, behaviour] of NO_LIST) {
    test(`are not ${what}`, async () => {
      server.stop();
      server = startModelServer([behaviour], []);
      const error = await failure(listModels(settings(), new AbortController().signal));
      expect(error.code).toBe("unavailable");
    });
  }
});

describe("the environment", () => {
  /** Asks in a process of its own, whose environment Bun reads when it starts. */
  async function askElsewhere(env: Record<string, string>): Promise<string> {
    const script = `
      const { askModel } = await import(${JSON.stringify(join(import.meta.dir, "../src/review-model.ts"))});
      const { readModelSettings } = await import(${JSON.stringify(join(import.meta.dir, "../src/review-settings.ts"))});
      const signal = new AbortController().signal;
      console.log(await askModel([], readModelSettings(process.env), signal).then(() => "answered", (e) => e.message));`;
    const child = Bun.spawn([process.execPath, "-e", script], {
      env: { PATH: process.env.PATH ?? "", AEGIS_AI_BASE_URL: server.url, ...env },
      stderr: "inherit",
    });
    return (await new Response(child.stdout).text()).trim();
  }

  test("proxies are not used for loopback", async () => {
    const proxy = "http://127.0.0.1:1";
    const env = { HTTP_PROXY: proxy, http_proxy: proxy, ALL_PROXY: proxy, all_proxy: proxy };
    expect(await askElsewhere(env)).toBe("answered");
  });

  test("Bun's own idle timeout is off", async () => {
    // At its shortest, 1 s by the variable, Bun gives up after 8 s: its timers are coarse.
    server.behave(thinks(10_000));
    expect(await askElsewhere({ BUN_CONFIG_HTTP_IDLE_TIMEOUT: "1" })).toBe("answered");
  }, 30_000);
});
