import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  readSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import {
  decideRequest,
  listRequests,
  readRequest,
  submitRequest,
  watchRequest,
  watchRequests,
  withdrawRequest,
} from "../src/front-requests.ts";
import { makePipe } from "../src/sys-ffi.ts";
import { proofText } from "../src/wire-executor.ts";
import { needs } from "./needs.ts";
import { aSummary } from "./request-kit.ts";
import { REFUSED, startRunner, temporaryDirectory } from "./varlink-kit.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const PROOF = "0123456789abcdef0123456789abcdef";
const ASKED = { operation_plan: "{}", policy_result: "{}", review: null, reason: "web server" };
const proofEvent = (proof: string) => ({ parameters: { event: { kind: "proof", proof } }, continues: true });
const done = (request: unknown = aSummary()) => ({ parameters: { event: { kind: "done", request } } });

/** An executor that asks for `proof`, and one directory of proofs. */
async function setUp(answer: Parameters<typeof startRunner>[1]) {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const socket = join(directory.path, "executor.sock");
  const proofs = join(directory.path, "proof");
  mkdirSync(proofs);
  const server = await startRunner(socket, answer);
  cleanups.push(server.close);
  return { socket, proofs, server, file: join(proofs, PROOF) };
}

/** Makes a pipe as the runner does. Returns what reads it. */
function openPipe(path: string): () => string {
  makePipe(path);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  cleanups.push(() => closeSync(fd));
  return () => {
    try {
      const bytes = Buffer.alloc(1024);
      return bytes.toString("latin1", 0, readSync(fd, bytes));
    } catch (error) {
      expect(error).toMatchObject({ code: "EAGAIN" });
      return "";
    }
  };
}

/** Asks for a proof, and answers as soon as it is there. */
const asksOnce: Parameters<typeof startRunner>[1] = (_, reply) => {
  reply(proofEvent(PROOF));
  reply(done());
};

describe("a proof is refused", () => {
  const bad: [string, (file: string) => void, string][] = [
    ["where there is no file", () => {}, "io"],
    ["through a link", (file) => symlinkSync(process.execPath, file), "io"],
    ["into a directory", (file) => mkdirSync(file), "io"],
    ["into a file, which could grow", (file) => writeFileSync(file, ""), "refused"],
    [
      "into a pipe that has another name too",
      (file) => {
        openPipe(file);
        linkSync(file, `${file}2`);
      },
      "refused",
    ],
    [
      "into a pipe, without waiting for its reader",
      (file) => void Bun.spawnSync(["/usr/bin/mkfifo", file]),
      "io",
    ],
  ];
  test.each(bad)("%s", async (_, prepare, code) => {
    const { socket, proofs, file } = await setUp(asksOnce);
    prepare(file);
    await expect(submitRequest(socket, ASKED, { proofs })).rejects.toMatchObject({ code });
  });

  needs(process.getuid?.() === 0, "root").test("into somebody else's file", async () => {
    const { socket, proofs, file } = await setUp(asksOnce);
    const read = openPipe(file);
    Bun.spawnSync(["/usr/bin/chown", "65534", file]);
    await expect(submitRequest(socket, ASKED, { proofs })).rejects.toMatchObject({ code: "refused" });
    expect(read()).toBe("");
  });

  test.each([
    ["../other", "a path"],
    ["0123", "too short"],
    [PROOF.toUpperCase(), "another spelling"],
  ])("by the name %s: %s", async (name) => {
    const { socket, proofs } = await setUp((_, reply) => reply(proofEvent(name)));
    await expect(submitRequest(socket, ASKED, { proofs })).rejects.toMatchObject({ code: "protocol" });
  });

  test("a second time: one call is proved once", async () => {
    const other = "f".repeat(32);
    const { socket, proofs, file } = await setUp((_, reply) => {
      reply(proofEvent(PROOF));
      reply(proofEvent(other));
    });
    openPipe(file);
    const read = openPipe(join(proofs, other));
    await expect(submitRequest(socket, ASKED, { proofs })).rejects.toMatchObject({
      code: "protocol",
      message: expect.stringContaining("second time"),
    });
    expect(read()).toBe("");
  });
});

describe("a proof", () => {
  const other: [string, string][] = [
    ["parameter", proofText("Withdraw", { number: 8 }, PROOF)],
    ["method", proofText("Decide", { number: 7 }, PROOF)],
    ["name", proofText("Withdraw", { number: 7 }, "f".repeat(32))],
  ];
  test.each(other)("is another one for another %s", (_, text) => {
    expect(text).not.toBe(proofText("Withdraw", { number: 7 }, PROOF));
  });

  test("does not depend on who the front says calls, nor on absent members", () => {
    const caller = { uid: 0, gid: 0, pid: 1 };
    const text = proofText("Withdraw", { number: 7, reason: null, caller }, PROOF);
    expect(text).toBe(proofText("Withdraw", { number: 7 }, PROOF));
  });

  test("is written for the call as it was sent", async () => {
    const { socket, proofs, file, server } = await setUp(asksOnce);
    const read = openPipe(file);
    chmodSync(file, 0o200);
    expect(await submitRequest(socket, ASKED, { proofs })).toEqual(aSummary());
    const [sent] = server.calls;
    expect(sent).toMatchObject({ method: "io.aegis.Executor.Submit", more: true });
    expect(sent?.parameters).toEqual({ operation_plan: "{}", policy_result: "{}", reason: "web server" });
    expect(read()).toBe(proofText("Submit", sent?.parameters ?? {}, PROOF));
  });
});

describe("answers", () => {
  const wrong: [string, object][] = [
    ["no request", done(null)],
    ["a request with an unknown member", done({ ...aSummary(), root: true })],
    ["an unknown event", { parameters: { event: { kind: "granted" } } }],
  ];
  test.each(wrong)("%s is a fault of the protocol", async (_, message) => {
    const { socket } = await setUp((_call, reply) => reply(message));
    const withdrawn = withdrawRequest(socket, { number: 7, reason: null });
    await expect(withdrawn).rejects.toMatchObject({ code: "protocol" });
  });

  test("a refusal keeps the runner's words", async () => {
    const parameters = {
      code: "busy",
      message: "16 of your requests wait",
      hint: "Withdraw one.",
      details: {},
    };
    const { socket } = await setUp((_, reply) => reply({ error: REFUSED, parameters }));
    await expect(submitRequest(socket, ASKED)).rejects.toMatchObject({
      code: "busy",
      message: "16 of your requests wait",
      hint: "Withdraw one.",
    });
  });

  test("another request than was asked for", async () => {
    const { socket } = await setUp((_, reply) =>
      reply({ parameters: { requests: [aSummary({ number: 8 })], left_out: 0 } }),
    );
    await expect(readRequest(socket, 7)).rejects.toMatchObject({ code: "protocol" });
  });

  test("documents of another request", async () => {
    const documents = { operation_plan: "{}", policy_result: "{}", approvals: [] };
    const { socket } = await setUp((_, reply) =>
      reply({ parameters: { requests: [aSummary()], left_out: 0, documents } }),
    );
    await expect(readRequest(socket, 7)).rejects.toMatchObject({ code: "invalid_document" });
  });

  test("the list, and one that has ended", async () => {
    const ended = aSummary({ state: "expired" });
    const { socket } = await setUp((_, reply) => reply({ parameters: { requests: [ended], left_out: 2 } }));
    expect(await listRequests(socket, { all: true })).toEqual({ requests: [ended], left_out: 2 });
    expect(await readRequest(socket, 7)).toEqual({ request: ended, documents: null });
  });
});

test("a decision is sent with its documents, and with nothing that it lacks", async () => {
  const { socket, server } = await setUp((_, reply) => reply(done()));
  const decision = { number: 7, request_hash: "a".repeat(64) };
  await decideRequest(socket, { ...decision, approval: "{}", newer: null });
  const newer = { operation_plan: "1", policy_result: "2", review: null };
  await decideRequest(socket, { ...decision, approval: "{}", newer });
  await decideRequest(socket, { ...decision, rejection: "{}" });
  expect(server.calls.map(({ parameters }) => parameters)).toEqual([
    { ...decision, approval: "{}" },
    { ...decision, approval: "{}", operation_plan: "1", policy_result: "2" },
    { ...decision, rejection: "{}" },
  ]);
});

describe("watching", () => {
  const state = (number: number, revision: number, name: string) => ({
    parameters: { event: { kind: "state", number, revision, state: name } },
    continues: true,
  });

  test("a request that is not there", async () => {
    const { socket } = await setUp((_, reply) =>
      reply({ parameters: { event: { kind: "none", number: 7 } }, continues: true }),
    );
    const watched = watchRequest(socket, { number: 7, revision: 1 });
    await expect(watched).rejects.toMatchObject({ code: "not_found" });
  });

  test("ends when its caller gives up", async () => {
    const { socket } = await setUp((_, reply) => reply(state(7, 1, "open")));
    const watched = watchRequest(socket, { number: 7, revision: 1 }, AbortSignal.timeout(50));
    await expect(watched).rejects.toThrow();
  });

  test("the first state that is not the known one", async () => {
    const { socket, server } = await setUp((_, reply) => {
      reply(state(7, 1, "open"));
      reply({ parameters: { event: { kind: "current" } }, continues: true });
      reply({ parameters: { event: { kind: "alive" } }, continues: true });
      reply(state(7, 2, "approved"));
    });
    const found = await watchRequest(socket, { number: 7, revision: 1 });
    expect(found).toEqual({ number: 7, revision: 2, state: "approved" });
    expect(server.calls[0]?.parameters).toEqual({ number: 7 });
  });

  test("every state, and when all present ones have come", async () => {
    const { socket, server } = await setUp((_, reply, to) => {
      reply(state(7, 1, "open"));
      reply({ parameters: { event: { kind: "current" } }, continues: true });
      reply(state(8, 1, "open"));
      to.end();
    });
    const seen: unknown[] = [];
    const watched = watchRequests(socket, {
      number: null,
      onState: (known) => seen.push(known.number),
      onCurrent: () => seen.push("current"),
    });
    await expect(watched).rejects.toMatchObject({ code: "protocol" });
    expect(seen).toEqual([7, "current", 8]);
    expect(server.calls[0]?.parameters).toEqual({});
  });
});
