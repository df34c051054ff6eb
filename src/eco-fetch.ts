import { createHash, type Hash } from "node:crypto";
import { chmodSync, chownSync, closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import type { OperationPlan } from "./doc-plan.ts";
import { type FetchRequest, FRAME, type Frame, FrameReader } from "./eco-fetch-frames.ts";
import type { FetchAccess, SignedFile } from "./eco-managed.ts";
import { confinedCommand, runSandbox } from "./eco-sandbox.ts";
import { callUnit } from "./eco-sandbox-unit.ts";
import { AegisError } from "./errors.ts";
import type { Account } from "./sys-account.ts";
import { refuseUnprotected } from "./sys-fetch.ts";
import { writeFully } from "./sys-files.ts";

/*
 * Fetching, root's half: an unprivileged process with a network hands over bytes, and root writes, counts and hashes them. The first
 * byte that isn't the signed one ends it, before the plan is used up.
 */

/** A download that brings less than this in a window is given up: a registry must not keep the queue waiting by dripping. */
const FETCH_PACE = { windowMs: 30_000, bytes: 30 * 1024, totalMs: 30 * 60_000 };
/** The fetch process needs memory for eight downloads, and no disk. */
const LIMITS = { memory: 2 * 1024 ** 3, tasks: 512, disk: 1024 * 1024, entries: 100 };

export interface Fetching {
  /** The aegis executable. */
  aegis: string;
  /** The socket of systemd's unit that fetches; null for a sandbox by hand. */
  unit: string | null;
  /** As whom to fetch; its group may read the files, for the closed registry. */
  account: Account;
  /** An empty directory of root's for the sandbox. */
  root: string;
  /** How each address is reached. */
  reached(url: URL): FetchAccess;
  /** Bytes of bytes. */
  progress(done: number, of: number): void;
  stop: AbortSignal;
  pace?: typeof FETCH_PACE;
}

/**
 * The files of a plan with where they will lie below `directory`.
 * @throws AegisError `refused` for a plan that doesn't say of each package where it is, how large and with which SHA-256
 */
export function filesOf(plan: OperationPlan, directory: string): SignedFile[] {
  const entries = plan.transaction.map(({ name, to_version, url, integrity, sha256, size, media_type }) => {
    if (to_version === null || url === undefined || sha256 === null || size === null)
      throw new AegisError("refused", `the plan doesn't say what the file of ${name} is: it has no closure`);
    const type = media_type === undefined ? {} : { mediaType: media_type };
    return {
      ...{ name, version: to_version, isSupport: false, url, integrity: integrity ?? "", sha256, size },
      ...type,
    };
  });
  const support = (plan.support_files ?? []).map((one) => ({ ...one, version: "", isSupport: true }));
  return [...entries, ...support].map((file, i) => ({ ...file, path: join(directory, String(i)) }));
}

/**
 * Downloads files into a new directory and returns when each is on disk and equal to its signed hash.
 * @throws AegisError `refused` for an address without encryption, `evidence_mismatch` for other bytes, `unavailable` if a file can't be
 * had; the reason of `stop`
 */
export async function fetchFiles(
  files: readonly SignedFile[],
  directory: string,
  fetching: Fetching,
): Promise<void> {
  const { account, reached, stop, pace = FETCH_PACE } = fetching;
  for (const { url } of files) refuseUnprotected(new URL(url));
  mkdirSync(directory, { mode: 0o750 });
  chownSync(directory, 0, account.gid);
  chmodSync(directory, 0o750);
  if (files.length === 0) return;
  const controller = new AbortController();
  const forward = () => controller.abort(stop.reason);
  stop.addEventListener("abort", forward);
  if (stop.aborted) forward();
  const arriving = new Arriving(files, account.gid, fetching.progress);
  const request = `${JSON.stringify(requestFor(files, reached))}\n`;
  const slow = (what: string) => () =>
    controller.abort(
      new AegisError("unavailable", `the registry is too slow: ${what}`, "Apply it again later."),
    );
  const total = setTimeout(slow(`not done after ${pace.totalMs / 60_000} minutes`), pace.totalMs);
  let before = 0;
  const window = setInterval(() => {
    if (arriving.bytes - before < pace.bytes)
      slow(`${arriving.bytes - before} bytes in ${pace.windowMs} ms`)();
    before = arriving.bytes;
  }, pace.windowMs);
  try {
    await work(fetching, request, (data) => arriving.take(data), controller.signal);
    arriving.refuseMissing();
  } finally {
    clearTimeout(total);
    clearInterval(window);
    stop.removeEventListener("abort", forward);
    arriving.close();
  }
}

/** For the fetch process. Each way to a registry stands there once: a way may have a company's whole list of certificates. */
function requestFor(files: readonly SignedFile[], reached: Fetching["reached"]): FetchRequest {
  const ways: FetchAccess[] = [];
  const known = new Map<string, number>();
  const list = files.map(({ url, size }) => {
    const access = reached(new URL(url));
    const key = JSON.stringify(access);
    const way = known.get(key) ?? ways.push(access) - 1;
    known.set(key, way);
    return { url, size, way };
  });
  return { ways, files: list };
}

/** Lets the fetch process do what `line` says, to its end. */
async function work(
  { aegis, unit, account, root }: Fetching,
  line: string,
  take: (data: Buffer) => void,
  stop: AbortSignal,
): Promise<void> {
  if (unit !== null) {
    await callUnit(unit, line, take, stop);
    return;
  }
  const [program, ...args] = confinedCommand(aegis, "fetch");
  const end = await runSandbox(
    {
      ...{ aegis, root, network: true, account, program, args, limits: LIMITS, registry: null, files: null },
      binds: [{ from: program, to: program, writable: false }],
      environment: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", HOME: "/nonexistent" },
      cwd: "/run",
      input: line,
    },
    null,
    { output: take },
    stop,
  );
  if (end.exceeded !== null || end.status !== 0)
    throw new AegisError("unavailable", `fetching failed: ${end.exceeded ?? `status ${end.status}`}`);
}

/** Files as they arrive, each written, counted and hashed. */
class Arriving {
  bytes = 0;
  readonly #frames = new FrameReader();
  readonly #files: { signed: SignedFile; fd: number | null; hash: Hash; size: number; isWhole: boolean }[];
  readonly #gid: number;
  readonly #progress: Fetching["progress"];
  readonly #total: number;

  constructor(files: readonly SignedFile[], gid: number, progress: Fetching["progress"]) {
    this.#files = files.map((signed) => ({
      ...{ signed, fd: null, hash: createHash("sha256"), size: 0, isWhole: false },
    }));
    this.#gid = gid;
    this.#progress = progress;
    this.#total = files.reduce((sum, { size }) => sum + size, 0);
  }

  /** @throws AegisError `evidence_mismatch` at the first difference, `unavailable` for a file that can't be had */
  take(data: Buffer): void {
    for (const frame of this.#frames.push(data)) this.#takeFrame(frame);
    this.#progress(this.bytes, this.#total);
  }

  #takeFrame({ index, kind, data }: Frame): void {
    const file = this.#files[index];
    if (file === undefined || file.isWhole)
      throw new AegisError("evidence_mismatch", "the fetch process sends what wasn't asked for");
    const { signed } = file;
    const what = `${signed.name} ${signed.version}`.trim();
    if (kind === FRAME.failed)
      throw new AegisError("unavailable", `${what} can't be fetched: ${data.toString("utf8")}`);
    if (file.fd === null) {
      file.fd = openSync(signed.path, "wx", 0o640);
      chownSync(signed.path, 0, this.#gid);
    }
    file.size += data.length;
    this.bytes += data.length;
    if (file.size > signed.size) throw otherBytes(what, `it is longer than the signed ${signed.size} bytes`);
    file.hash.update(data);
    writeFully(file.fd, data);
    if (kind !== FRAME.end) return;
    if (file.size < signed.size)
      throw otherBytes(what, `it has ${file.size} bytes instead of the signed ${signed.size}`);
    if (file.hash.digest("hex") !== signed.sha256) throw otherBytes(what, "it has another SHA-256");
    file.isWhole = true;
    closeSync(file.fd);
    file.fd = null;
  }

  /** @throws AegisError `unavailable` */
  refuseMissing(): void {
    const missing = this.#files.find(({ isWhole }) => !isWhole);
    if (missing === undefined) return;
    throw new AegisError("unavailable", `${missing.signed.name} was not fetched, and nothing says why`);
  }

  close(): void {
    for (const file of this.#files) if (file.fd !== null) closeSync(file.fd);
  }
}

function otherBytes(what: string, why: string): AegisError {
  return new AegisError(
    "evidence_mismatch",
    `the registry gives another file for ${what} than was signed: ${why}`,
    "Plan it again. If that plan differs too, tell the registry.",
  );
}
