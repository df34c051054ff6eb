import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { AegisError, errnoOf } from "./errors.ts";
import { makePipe } from "./sys-ffi.ts";
import { type Caller, type ProvenMethod, proofText } from "./wire-executor.ts";

/*
 * Who calls, by the kernel's word and not by the front's: the runner makes a pipe that only the claimed user can write, and that
 * user's client writes into it a digest of the call it has made. A compromised front can't write there, and one client's
 * answer is no good for another call: it can lose or delay one, not make or change one.
 */

/** Time for the client to answer. */
const PROOF_MS = 10_000;
/** Pipes older than this were left by a runner that was killed. */
const STALE_MS = 60_000;
/** SHA-256 in hex. */
const LENGTH = 64;

export interface ProofQuestion {
  method: ProvenMethod;
  /** As received, with or without the front's `caller`. */
  parameters: object;
  /** Who calls, as the front says. */
  caller: Caller | null;
  /** The uid at the other end of the runner's connection: the front's own. It asks for nothing itself. */
  front: number;
}

export interface ProofPlace {
  /** Only its owner may write to it; others need to reach the pipes in it by name. */
  directory: string;
  /** Tells the client the name of its pipe. */
  announce(name: string): void;
  /** Whether the client has left. */
  gone(): boolean;
  stop: AbortSignal;
  /** Given by tests: the time for an answer, and the age of what a killed runner left, in milliseconds. */
  limitMs?: number;
  staleMs?: number;
}

/**
 * Proves that the user whom the front names has made exactly this call. Returns their uid. The pipe is gone when it returns or
 * throws; one that a killed runner left is removed by the next call.
 * @throws AegisError `refused` with what is wrong, `timeout` if nothing came in time, `protocol` without a caller, `io`
 */
export async function proveCaller(question: ProofQuestion, place: ProofPlace): Promise<number> {
  const { method, parameters, caller, front } = question;
  if (caller === null) throw new AegisError("protocol", "the front did not say who calls");
  if (caller.uid < 0 || (caller.uid === front && front !== 0)) {
    throw new AegisError(
      "refused",
      `uid ${caller.uid} is the executor's own front, which asks for nothing itself`,
    );
  }
  removeStale(place.directory, place.staleMs ?? STALE_MS);
  const name = randomBytes(16).toString("hex");
  const path = join(place.directory, name);
  let fd = -1;
  // A pipe, not a file: the owner of a file in /run could fill /run, even after the file is removed.
  makePipe(path);
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    fchmodSync(fd, 0o200);
    if (caller.uid !== process.geteuid?.()) fchownSync(fd, caller.uid, -1);
    // chown(2) takes 4294967295 for "leave the owner", which is root: no call of root's may go under a number that isn't theirs.
    const { uid } = fstatSync(fd);
    if (uid !== caller.uid) throw new AegisError("refused", `uid ${caller.uid} is nobody's`);
    place.announce(name);
    const found = await answerIn(fd, caller.uid, place);
    if (found === proofText(method, parameters, name)) return caller.uid;
  } finally {
    rmSync(path, { force: true });
    if (fd >= 0) closeSync(fd);
  }
  throw new AegisError(
    "refused",
    `uid ${caller.uid} has not made this call: what it wrote as proof is of another one`,
    "Nothing was done. Try it again; if it happens again, the front is not what was installed: aegis doctor",
  );
}

/** What was written into the pipe; an empty text if that is too much. */
async function answerIn(
  fd: number,
  uid: number,
  { gone, stop, limitMs = PROOF_MS }: ProofPlace,
): Promise<string> {
  const end = performance.now() + limitMs;
  let answer = "";
  for (let pause = 2; ; pause = Math.min(50, pause * 2)) {
    answer += readNow(fd);
    if (answer.length >= LENGTH) return answer.length === LENGTH ? answer : "";
    stop.throwIfAborted();
    if (gone()) throw new AegisError("protocol", "the connection ended before its client proved who it is");
    if (performance.now() >= end) {
      throw new AegisError(
        "timeout",
        `uid ${uid} has not proved within ${limitMs / 1000} s that it made this call`,
        "Nothing was done. Use aegis itself, on this host; another client has to answer the proof as the interface says.",
      );
    }
    await Bun.sleep(pause);
  }
}

/** What is in the pipe, at most one character more than an answer. */
function readNow(fd: number): string {
  const bytes = Buffer.alloc(LENGTH + 1);
  try {
    return bytes.toString("latin1", 0, readSync(fd, bytes));
  } catch (error) {
    if (errnoOf(error) === "EAGAIN") return "";
    throw error;
  }
}

/** By the time of the last change of the inode, which its owner can't set. */
function removeStale(directory: string, staleMs: number): void {
  const before = Date.now() - staleMs;
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat !== undefined && stat.ctimeMs < before) rmSync(path, { force: true, recursive: true });
  }
}
