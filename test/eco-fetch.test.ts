import { afterEach, beforeEach, expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fetchFiles, filesOf } from "../src/eco-fetch.ts";
import { FRAME, FrameReader, frameHeader } from "../src/eco-fetch-frames.ts";
import { AegisError } from "../src/errors.ts";
import { fakeManaged } from "./managed-fake.ts";
import {
  buildUser,
  compiledAegis,
  ManagedTest,
  managed,
  pidsOf,
  processesOf,
  type RegistryTrick,
  script,
} from "./managed-kit.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory, until } from "./varlink-kit.ts";

const TOOL = { name: "tool", bytes: "signed bytes\n".repeat(10_000) };

managed.describe("fetching", () => {
  const aegis = compiledAegis();
  let at: ManagedTest;
  beforeEach(() => {
    at = new ManagedTest(aegis(), fakeManaged);
  });
  afterEach(() => at.close());

  const flipped: RegistryTrick = (bytes) => {
    const other = Buffer.from(bytes);
    other[77_777] = (other[77_777] ?? 0) ^ 1;
    return new Response(other);
  };
  const REFUSED: [
    what: string,
    trick: RegistryTrick,
    code: "evidence_mismatch" | "unavailable",
    why: RegExp,
  ][] = [
    ["a byte that differs", flipped, "evidence_mismatch", /another SHA-256/],
    [
      "a byte more",
      (bytes) => new Response(Buffer.concat([bytes, Buffer.from("x")])),
      "evidence_mismatch",
      /longer than the signed/,
    ],
    ["a byte less", (bytes) => new Response(bytes.slice(1)), "evidence_mismatch", /129999 bytes instead/],
    ["nothing", () => new Response(""), "evidence_mismatch", /0 bytes instead/],
    [
      "far more",
      () => new Response(new Uint8Array(64 << 20)),
      "evidence_mismatch",
      /longer than the signed 130000 bytes/,
    ],
    [
      "a redirect",
      () => Response.redirect("http://127.0.0.1:1/other", 302),
      "unavailable",
      /status 302, and sends elsewhere/,
    ],
    ["404", () => new Response("no", { status: 404 }), "unavailable", /status 404/],
  ];
  for (const [what, trick, code, why] of REFUSED) {
    managed.test(`${what}: refused before anything is used up`, async () => {
      at.trick = trick;
      const error = await at.prepare(at.plan([TOOL]), script("true")).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(AegisError);
      if (!(error instanceof AegisError)) return;
      expect(error.code).toBe(code);
      expect(error.message).toMatch(why);
      expect(existsSync(join(at.runDirectory(), "build.json"))).toBe(false);
      expect(at.leftOver()).toEqual([]);
    });
  }

  managed.test("a registry that drips is given up", async () => {
    at.trick = () => {
      const drip = async function* () {
        for (;;) {
          yield new Uint8Array(1);
          await Bun.sleep(20);
        }
      };
      return new Response(drip());
    };
    const directory = join(at.directory, "drip");
    const files = filesOf(at.plan([TOOL]), directory);
    const root = join(at.directory, "runs");
    const fetching = {
      ...{ aegis: aegis(), unit: null, account: buildUser(), root, reached: () => ({}), progress() {} },
      ...{ stop: new AbortController().signal, pace: { windowMs: 1500, bytes: 10_000, totalMs: 60_000 } },
    };
    await refuses(() => fetchFiles(files, directory, fetching), "unavailable");
  });

  managed.test("it ends when the runner is asked to end", async () => {
    const stop = new AbortController();
    at.trick = () => {
      stop.abort(new AegisError("unavailable", "the executor is being stopped"));
      return new Response(new ReadableStream({}));
    };
    await refuses(() => at.prepare(at.plan([TOOL]), script("true"), stop.signal), "unavailable");
    expect(at.leftOver()).toEqual([]);
  });

  managed.test("when the runner is killed, nothing goes on fetching", async () => {
    at.plan([TOOL]);
    at.trick = () => new Response(new ReadableStream({}));
    const { uid } = at.account;
    const path = join(import.meta.dir, "managed-fetcher.ts");
    const args = [path, aegis(), join(at.directory, "killed"), String(at.port), String(uid)];
    const runner = spawn(process.execPath, args, { stdio: "inherit" });
    await until(() => at.asked.length > 0);
    expect(processesOf(uid)).toHaveLength(1);
    runner.kill("SIGKILL");
    await until(() => processesOf(uid).length === 0);
  });

  managed.test("the fetch process sees no file of root's", async () => {
    at.plan([TOOL]);
    at.trick = () => new Response(new ReadableStream({}));
    const stop = new AbortController();
    const prepared = at.prepare(at.plan([TOOL]), script("true"), stop.signal).catch(() => {});
    await until(() => at.asked.length > 0);
    const pid = pidsOf("--confined fetch")[0] ?? 0;
    const seen = (inside: string) => existsSync(`/proc/${pid}/root${inside}`);
    expect(["/usr/bin", "/etc/ssl/certs", "/etc/resolv.conf"].filter((one) => !seen(one))).toEqual([]);
    const hidden = [
      "/etc/aegis",
      "/etc/shadow",
      "/root",
      "/home",
      "/var/lib/aegis",
      "/var/log",
      "/run/aegis",
    ];
    expect(hidden.filter(seen)).toEqual([]);
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    expect(status).toMatch(/^CapPrm:\t0{16}$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).not.toMatch(/^Uid:\t0\t/m);
    stop.abort(new AegisError("unavailable", "enough"));
    await prepared;
  });

  managed.test("many files that are reached by a company's list of certificates", async () => {
    const certificates = "certificate\n".repeat(20_000);
    const company = new ManagedTest(aegis(), { ...fakeManaged, access: () => () => ({ certificates }) });
    try {
      const packages = Array.from({ length: 40 }, (_, i) => ({ ...TOOL, name: `tool-${i}` }));
      await company.prepare(company.plan(packages), script("true"));
      expect(company.asked).toHaveLength(40);
    } finally {
      company.close();
    }
  });

  managed.test("credentials reach the registry, and no file of the run", async () => {
    const secret = "Bearer very-secret-token";
    const seen: (string | null)[] = [];
    at.trick = (bytes, request) => {
      seen.push(request.headers.get("authorization"));
      return new Response(bytes);
    };
    const with_ = new ManagedTest(aegis(), {
      ...fakeManaged,
      access: () => () => ({ headers: { authorization: secret } }),
    });
    try {
      with_.trick = at.trick;
      await with_.prepare(with_.plan([TOOL]), script("true"));
      expect(seen).toEqual([secret]);
      const names = readdirSync(with_.directory, { recursive: true, withFileTypes: true });
      for (const entry of names.filter((one) => one.isFile())) {
        const text = await Bun.file(join(entry.parentPath, entry.name)).text();
        expect(text.includes("very-secret")).toBe(false);
      }
    } finally {
      with_.close();
    }
  });
});

test("an address without encryption: refused before anything is made", async () => {
  const { path, remove } = temporaryDirectory();
  const directory = join(path, "files");
  const file = {
    name: "x",
    version: "1.0.0",
    isSupport: false,
    integrity: "",
    sha256: "0".repeat(64),
    size: 1,
  };
  const files = [{ ...file, url: "http://registry.example/x.tgz", path: join(directory, "0") }];
  const account = { name: "nobody", uid: 65_534, gid: 65_534 };
  const stop = new AbortController().signal;
  const fetching = {
    aegis: "/none",
    unit: null,
    account,
    root: path,
    reached: () => ({}),
    progress() {},
    stop,
  };
  await refuses(() => fetchFiles(files, directory, fetching), "refused", "without encryption");
  expect(existsSync(directory)).toBe(false);
  remove();
});

test("what is no frame is refused", () => {
  const reader = new FrameReader();
  expect(reader.push(frameHeader(1, FRAME.data, 2))).toEqual([]);
  expect(reader.push(Buffer.from("ab"))).toMatchObject([{ index: 1, kind: FRAME.data }]);
  expect(() => reader.push(frameHeader(1, 9, 0))).toThrow("never should");
  expect(() => new FrameReader().push(frameHeader(1, FRAME.data, 1 << 20))).toThrow("never should");
});

test("a plan without a closure has no files to fetch", () => {
  const entry = { name: "x", to_version: "1.0.0", sha256: null, size: null };
  const plan: unknown = { transaction: [entry] };
  // What the executor hands over has passed the schema, where all of these are optional.
  expect(() => filesOf(plan as Parameters<typeof filesOf>[0], "/x")).toThrow("it has no closure");
});
