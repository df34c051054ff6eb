import { afterEach, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { canonicalJson, sha256Hex } from "../src/canonical.ts";
import { readDocument } from "../src/doc.ts";
import { generateKey } from "../src/key-file.ts";
import { reviewIsSignedBy } from "../src/key-review-signature.ts";
import { listenUnix } from "../src/sys-ffi.ts";
import { callReviewer, reviewerStatus } from "../src/wire-reviewer-client.ts";
import { buildWhereNeeded, PROGRAMS } from "./kit.ts";
import { fails, hangs, says, startModelServer, thinks } from "./model-server.ts";
import { needs } from "./needs.ts";
import { install } from "./policy-plans.ts";
import { RawClient, temporaryDirectory, until } from "./varlink-kit.ts";

/*
 * The reviewer as a process, against a model that a server on loopback plays.
 */

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const root = process.getuid?.() === 0;
/** Whoever the reviewer runs as, where these tests run as root. */
const NOBODY = 65534;
const binary = PROGRAMS.binary[0];

function planText(): string {
  const plan_id = randomUUID();
  // Evidence of its own: what was said of the same evidence lately is said again.
  return canonicalJson({ ...install(), plan_id, warnings: [plan_id] });
}

const review = (plan: string) => ({ method: "io.aegis.Reviewer.Review", parameters: { plan }, more: true });

/** How a client was refused; one that is cut off while it is still sending may not learn it. */
const refusal = (client: RawClient) => client.refusal().catch(() => "hung up");

/** The event of the last answer to `client`'s one call. */
async function lastEvent(client: RawClient): Promise<{ kind?: string; review?: string; place?: number }> {
  for (let count = 1; ; count++) {
    const { parameters, continues, error } = await client.reply(count);
    if (error !== undefined) throw new Error(`${error} ${JSON.stringify(parameters)}`);
    if (continues !== true) return Object(parameters.event);
  }
}

interface Started {
  path: string;
  home: string;
  client(): RawClient;
  residentKb(field?: "VmRSS" | "VmHWM"): number;
  pid: number;
  stderr(): string;
  exited: Promise<number | null>;
}

interface Start {
  argv(path: string): string[];
  url: string;
  /** Run as another user, where we are root. */
  drop?: boolean;
  env?: Record<string, string>;
  /** Handed over as descriptor 3, as systemd does. */
  handOver?: boolean;
}

/** Starts a reviewer and waits until it answers, or has ended. */
async function start({ argv, url, drop = false, env = {}, handOver = false }: Start): Promise<Started> {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const home = join(directory.path, "home");
  mkdirSync(home);
  const path = join(directory.path, "reviewd.sock");
  const fd = handOver ? listenUnix(path) : "ignore";
  const ids = drop && root ? { uid: NOBODY, gid: NOBODY } : {};
  if (drop && root) for (const it of [directory.path, home]) chownSync(it, NOBODY, NOBODY);
  const [program = "", ...args] = argv(path);
  const child = spawn(program, args, {
    env: { PATH: "/usr/bin:/bin", HOME: home, AEGIS_AI_BASE_URL: url, AEGIS_LOG: "info", ...env },
    cwd: "/",
    stdio: ["ignore", "ignore", "pipe", fd],
    ...ids,
  });
  let stderr = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  let ended = false;
  const exited = new Promise<number | null>((resolve) => {
    child.once("exit", (status) => {
      ended = true;
      resolve(status);
    });
  });
  cleanups.push(() => {
    child.kill("SIGKILL");
    return exited;
  });
  const client = () => {
    const it = new RawClient(path);
    cleanups.push(() => it.socket.destroy());
    return it;
  };
  const answers = () =>
    reviewerStatus(path, { silenceMs: 5000 }).then(
      () => true,
      () => false,
    );
  while (!ended && !(await answers())) await Bun.sleep(20);
  const residentKb = (field = "VmRSS") =>
    Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]);
  return { path, home, client, residentKb, pid: child.pid ?? 0, stderr: () => stderr, exited };
}

const fromSources = (url: string, limits: object) =>
  start({
    argv: (path) => [
      process.execPath,
      join(import.meta.dir, "reviewer-process.ts"),
      path,
      JSON.stringify(limits),
    ],
    url,
  });
const built = (url: string, options: Partial<Start> = {}) => {
  buildWhereNeeded();
  const argv = (path: string) => [binary, "daemon", "--reviewer", "--socket", path];
  return start({ argv, url, drop: true, ...options });
};

/** 50 clients with 10 silent ones, four plans among them. */
async function fifty(
  client: () => RawClient,
  model: ReturnType<typeof startModelServer>,
  atOnce: number,
): Promise<void> {
  const plans = Array.from({ length: 4 }, planText);
  const silent = Array.from({ length: 10 }, client);
  const asking = Array.from({ length: 40 }, (_, i) => {
    const plan = plans[i % plans.length] ?? "";
    return { plan, it: client().send(review(plan)) };
  });
  for (const { plan, it } of asking) {
    const { kind, review: text } = await lastEvent(it);
    expect(kind).toBe("finished");
    expect(JSON.parse(text ?? "")).toMatchObject({ plan_hash: sha256Hex(plan) });
  }
  expect(model.asked.length).toBe(plans.length);
  expect(model.mostOpen).toBe(atOnce);
  expect(await Promise.all(silent.map((it) => it.refusal()))).toEqual(Array(10).fill("timeout"));
  await Promise.all(silent.map((it) => it.closed));
}

test("PEER 23: 50 clients, 10 of them silent: 40 are served with one call per plan, the silent ones are dropped", async () => {
  using model = startModelServer([thinks(150)]);
  const { client } = await fromSources(model.url, { requestMs: 1500, askingPerUid: 2 });
  await fifty(client, model, 2);
}, 30_000);

test("PEER 21: memory stays bounded while 100 clients push 4 MiB each, and the next one is served", async () => {
  using model = startModelServer();
  const { client, residentKb } = await fromSources(model.url, { clientsPerUid: 200, requestMs: 3000 });
  // Once, so that what only the first review needs is there already.
  await lastEvent(client().send(review(planText())));
  const before = residentKb();
  const megabyte = Buffer.alloc(1024 * 1024, " ");
  const codes = await Promise.all(
    Array.from({ length: 100 }, () => {
      const it = client();
      for (let i = 0; i < 4; i++) it.send(megabyte);
      return refusal(it);
    }),
  );
  expect(codes).toContain("busy");
  expect(codes).toContain("timeout");
  expect(residentKb("VmHWM") - before).toBeLessThan(200_000);
  expect((await lastEvent(client().send(review(planText())))).kind).toBe("finished");
}, 60_000);

test("memory stays bounded while 100 clients send invalid plans of 4 MiB each", async () => {
  using model = startModelServer();
  const { client, residentKb } = await fromSources(model.url, { clientsPerUid: 200 });
  await lastEvent(client().send(review(planText())));
  const before = residentKb();
  const request = JSON.stringify(review(canonicalJson({ a: "x".repeat(4_000_000) })));
  const codes = await Promise.all(Array.from({ length: 100 }, () => refusal(client().send(`${request}\0`))));
  expect(codes).toContain("busy");
  expect(codes).toContain("invalid_document");
  // Without the budget it is more than a thousand megabytes.
  expect(residentKb("VmHWM") - before).toBeLessThan(300_000);
  expect(model.asked.length).toBe(1);
}, 60_000);

test("garbage of large requests does not pile up", async () => {
  using model = startModelServer();
  const { client, residentKb } = await fromSources(model.url, {});
  await lastEvent(client().send(review(planText())));
  const before = residentKb();
  const tree = { a: Array.from({ length: 130_000 }, (_, i) => [i + 10 ** 14]) };
  const message = `${JSON.stringify(review(canonicalJson(tree)))}\0`;
  const it = client();
  for (let i = 1; i <= 40; i++) expect(await it.send(message).refusal(i)).toBe("invalid_document");
  expect(residentKb("VmHWM") - before).toBeLessThan(100_000);
}, 60_000);

test("PEER 23, with the default limits: the same 50 clients", async () => {
  using model = startModelServer([thinks(300)]);
  const { client, stderr } = await built(model.url);
  expect(stderr()).toContain("the reviewer listens");
  // All of them are one user's.
  await fifty(client, model, 1);
}, 60_000);

test("a key is made on first use, reviews are signed with it and audited, a second daemon is refused", async () => {
  using model = startModelServer();
  const { path, home, pid, exited } = await built(model.url);
  const data = join(home, ".local/share/aegis");
  expect(statSync(join(data, "keys/reviewer-key")).mode & 0o777).toBe(0o600);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const { public_key_hex, model: name } = await reviewerStatus(path);
  expect(JSON.parse(readFileSync(join(data, "keys/reviewer-key.pub"), "utf8"))).toMatchObject({
    public_key_hex,
  });
  const plan = planText();
  const made = await callReviewer(path, plan);
  const { document } = readDocument("review", made.review);
  expect(document).toMatchObject({ plan_hash: sha256Hex(plan), model: name });
  expect(reviewIsSignedBy(document, [public_key_hex])).toBe(true);
  expect(made.reply).toContain("choices");
  const log = readFileSync(join(data, "audit/audit.ndjson"), "utf8").trim().split("\n");
  expect(log.map((line) => JSON.parse(line))).toMatchObject([
    { kind: "review_completed", plan_id: document.plan_id, details: { plan_hash: document.plan_hash } },
  ]);

  const env = { HOME: home };
  const second = await start({
    argv: () => [binary, "daemon", "--reviewer", "--socket", path],
    url: model.url,
    drop: true,
    env,
  });
  expect(await second.exited).toBe(2);
  expect(second.stderr()).toContain(`another daemon has ${path}`);

  process.kill(pid, "SIGTERM");
  expect(await exited).toBe(0);
  const again = await built(model.url, { env });
  expect((await reviewerStatus(again.path)).public_key_hex).toBe(public_key_hex);
}, 30_000);

test("SIGTERM during a call ends the reviewer and the call", async () => {
  using model = startModelServer([hangs]);
  const { client, pid, exited } = await built(model.url);
  const it = client().send(review(planText()));
  await until(() => model.open === 1);
  process.kill(pid, "SIGTERM");
  expect(await it.refusal(2)).toBe("unavailable");
  expect(await exited).toBe(0);
  await until(() => model.open === 0);
});

test("a client that leaves ends its call to the model", async () => {
  using model = startModelServer([hangs]);
  const { client } = await built(model.url);
  const it = client().send(review(planText()));
  await until(() => model.open === 1);
  it.socket.destroy();
  await until(() => model.open === 0);
});

test("with the model down it says so and keeps serving", async () => {
  const model = startModelServer();
  model.stop();
  const { path } = await built(model.url);
  for (let i = 0; i < 3; i++) {
    await expect(callReviewer(path, planText())).rejects.toMatchObject({ code: "unavailable" });
  }
  expect(await reviewerStatus(path)).toMatchObject({ asking: 0, waiting: 0 });
});

test("under systemd: the socket is descriptor 3, the key a credential", async () => {
  using model = startModelServer();
  const credentials = temporaryDirectory();
  cleanups.push(credentials.remove);
  const key = generateKey();
  writeFileSync(join(credentials.path, "aegis-review-key"), JSON.stringify(key));
  chmodSync(credentials.path, 0o755);
  const { path, home } = await built(model.url, {
    argv: () => [binary, "daemon", "--reviewer"],
    handOver: true,
    env: { LISTEN_FDS: "1", CREDENTIALS_DIRECTORY: credentials.path },
  });
  expect(await reviewerStatus(path)).toMatchObject({ public_key_hex: key.public_key_hex });
  const { document } = readDocument("review", (await callReviewer(path, planText())).review);
  expect(document.signature?.key_id).toBe(key.key_id);
  expect(existsSync(join(home, ".local/share/aegis/keys"))).toBe(false);
});

needs(root, "root").test("it refuses to run as root and creates nothing", async () => {
  const { home, exited, stderr } = await built("http://127.0.0.1:1/v1", { drop: false });
  expect(await exited).toBe(6);
  expect(stderr()).toContain("must not run as root");
  expect(readdirSync(home)).toEqual([]);
});

const REFUSED: [string, string[], Record<string, string>, number, string][] = [
  ["a model elsewhere", [], { AEGIS_AI_BASE_URL: "http://192.0.2.1/v1" }, 8, "AEGIS_AI_ALLOW_REMOTE"],
  ["a bad setting", [], { AEGIS_AI_MAX_OUTPUT_TOKENS: "many" }, 2, "AEGIS_AI_MAX_OUTPUT_TOKENS"],
  ["a key file that is not there", ["--key", "/nonexistent/key"], {}, 2, "/nonexistent/key"],
  ["keys of the executor", ["--public-key-hex", "ab"], {}, 2, "--public-key-hex"],
  ["a foreign preload", [], { LD_PRELOAD: "/nonexistent/x.so" }, 6, "LD_PRELOAD"],
];
for (const [what, words, env, status, says] of REFUSED) {
  test(`${what}: it does not start`, async () => {
    const argv = (path: string) => [binary, "daemon", "--reviewer", "--socket", path, ...words];
    const { exited, stderr, path } = await built("http://127.0.0.1:1/v1", { argv, env });
    expect(await exited).toBe(status);
    expect(stderr()).toContain(says);
    expect(existsSync(path)).toBe(false);
  });
}

test("the API key is never logged, whatever the server echoes", async () => {
  const key = "sk-0123456789abcdef";
  using model = startModelServer([
    fails(401, `bad key ${key}`),
    ({ headers }) => new Response(headers.get("authorization"), { headers: { "x-key": key } }),
    says(`${key} is no verdict`),
  ]);
  const env = { AEGIS_AI_API_KEY: key, AEGIS_LOG: "debug" };
  const { client, stderr } = await built(model.url, { env });
  for (let n = 0; n < 3; n++)
    await expect(lastEvent(client().send(review(planText())))).rejects.toThrow("Refused");
  expect(model.asked.every(({ headers }) => headers.get("authorization")?.includes(key) === true)).toBe(true);
  expect(stderr()).toContain("a review failed");
  expect(stderr()).not.toContain(key);
});
