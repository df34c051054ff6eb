import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { type ProofPlace, type ProofQuestion, proveCaller } from "../src/exec-proof.ts";
import { proofText } from "../src/wire-executor.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const UID = process.getuid?.() ?? 0;
const FRONT = 61184;
const PARAMETERS = { number: 7, reason: null };

let directory: string;
let remove: () => void;
beforeEach(() => {
  const made = temporaryDirectory();
  remove = made.remove;
  directory = join(made.path, "proof");
  mkdirSync(directory, { mode: 0o711 });
});
afterEach(() => {
  expect(readdirSync(directory)).toEqual([]);
  remove();
});

const question = (change: Partial<ProofQuestion> = {}): ProofQuestion => ({
  method: "Withdraw",
  parameters: PARAMETERS,
  caller: { uid: UID, gid: 0, pid: 1 },
  front: FRONT,
  ...change,
});

/** Asks, and lets `answer` do what a client would with its file. */
const ask = (
  answer: (path: string, name: string) => void,
  change: Partial<ProofQuestion> = {},
  place: Partial<ProofPlace> = {},
) =>
  proveCaller(question(change), {
    directory,
    announce: (name) => answer(join(directory, name), name),
    gone: () => false,
    stop: new AbortController().signal,
    limitMs: 200,
    ...place,
  });
const honest = (path: string, name: string) => writeFileSync(path, proofText("Withdraw", PARAMETERS, name));

describe("not proved", () => {
  test("without a caller", async () => {
    await refuses(() => ask(honest, { caller: null }), "protocol", "who calls");
  });

  test("by the front itself", async () => {
    const caller = { uid: FRONT, gid: FRONT, pid: 1 };
    await refuses(() => ask(honest, { caller }), "refused", "own front");
  });

  test("by nobody", async () => {
    await refuses(() => ask(honest, { caller: { uid: -1, gid: -1, pid: 1 } }), "refused");
  });

  needs(UID === 0, "root").test("by root under the number that chown(2) takes for nobody's", async () => {
    const caller = { uid: 0xffff_ffff, gid: 0, pid: 1 };
    await refuses(() => ask(honest, { caller }), "refused", "is nobody's");
  });

  const wrong: [string, (name: string) => string][] = [
    ["another request", (name) => proofText("Withdraw", { number: 8 }, name)],
    ["another reason", (name) => proofText("Withdraw", { ...PARAMETERS, reason: "x" }, name)],
    ["another method", (name) => proofText("Decide", PARAMETERS, name)],
    ["another proof", () => proofText("Withdraw", PARAMETERS, "0".repeat(32))],
    ["nonsense", () => "x".repeat(64)],
    ["more than a digest", (name) => `${proofText("Withdraw", PARAMETERS, name)}\n`],
  ];
  test.each(wrong)("by a proof of %s", async (_, text) => {
    await refuses(
      () => ask((path, name) => writeFileSync(path, text(name))),
      "refused",
      "has not made this call",
    );
  });

  test("by silence, and by half an answer", async () => {
    await refuses(() => ask(() => {}), "timeout", "not proved within 0.2 s");
    await refuses(() => ask((path) => writeFileSync(path, "x".repeat(63))), "timeout");
  });

  test("by a client that leaves", async () => {
    await refuses(() => ask(() => {}, {}, { gone: () => true }), "protocol", "connection ended");
  });

  test("while the host goes down", async () => {
    const stop = AbortSignal.abort(new Error("stopping"));
    await expect(ask(() => {}, {}, { stop })).rejects.toThrow("stopping");
  });

  needs(UID === 0, "root").test("by another user, who can't write into the file", async () => {
    const caller = { uid: 61190, gid: 61190, pid: 1 };
    const write = (path: string) => {
      const other = Bun.spawnSync(
        ["/usr/bin/setpriv", "--reuid", "61191", "--clear-groups", "/bin/dd", `of=${path}`, "conv=notrunc"],
        {
          stdin: Buffer.from("x".repeat(64)),
        },
      );
      expect(other.stderr.toString()).toContain("Permission denied");
    };
    await refuses(() => ask(write, { caller }), "timeout");
  });
});

test("nothing that a client writes stays: what it keeps open is a pipe, and no room in /run", async () => {
  let kept = -1;
  const flood = (path: string) => {
    kept = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    const mebibyte = Buffer.alloc(1 << 20, "x");
    let written = 0;
    try {
      for (let n = 0; n < 4; n++) written += writeSync(kept, mebibyte);
    } catch (error) {
      expect(error).toMatchObject({ code: "EAGAIN" });
    }
    expect(written).toBeLessThanOrEqual(1 << 20);
    expect(fstatSync(kept).blocks).toBe(0);
  };
  await refuses(() => ask(flood), "refused", "has not made this call");
  expect(() => writeSync(kept, "x")).toThrow("EPIPE");
  closeSync(kept);
});

test("proved by the digest of the call, in a file for its user alone", async () => {
  const modes: string[] = [];
  const uid = await ask((path, name) => {
    modes.push((statSync(path).mode & 0o777).toString(8));
    honest(path, name);
  });
  expect({ uid, modes }).toEqual({ uid: UID, modes: ["200"] });
});

test("a file that a killed runner left is removed by a later call, whatever times its owner sets", async () => {
  const left = join(directory, "0".repeat(32));
  writeFileSync(left, "");
  // The time of the last change can't be set, so the clock of the test can't either: nothing is old yet.
  utimesSync(left, new Date(0), new Date(0));
  await ask(honest);
  expect(readdirSync(directory)).toEqual(["0".repeat(32)]);
  await ask(honest, {}, { staleMs: -1000 });
});
