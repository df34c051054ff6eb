import { randomUUID } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
} from "node:fs";
import { basename, join } from "node:path";
import * as v from "valibot";
import { repositoryPath } from "./apt-repository-argv.ts";
import { canonicalJson, parseJson, sha256Hex } from "./canonical.ts";
import { MAX_REPOSITORY_FILE } from "./doc-repository.ts";
import { AegisError, type ErrorCode, errnoOf, isErrorCode, messageOf } from "./errors.ts";
import {
  createFileExclusive,
  namesIn,
  readFileLimited,
  syncDirectory,
  writeFileAtomic,
  writeFully,
} from "./sys-files.ts";

/*
 * The process that changes a repository's file, as root: `aegis daemon --repository <directory of the run>`. The new file is written
 * beside the old one under a hidden name, which apt skips, made durable, and renamed: whoever looks sees the old file or the new one.
 */

/** Names inside a run directory. */
export const REPOSITORY_FILES = {
  /** What to write. */
  change: "repository.json",
  /** Created by whoever decides first: the writer, to exchange, or the runner, to stop. */
  decision: "decision",
  /** Why nothing was changed. */
  refusal: "refusal.json",
  /** Room on the disk for the reason, should the disk be full. */
  reserve: "reserve",
} as const;

/** Content of the decision file. */
export const REPOSITORY_DECISION = { stopped: "stopped", exchange: "exchange" } as const;

const Change = v.strictObject({
  name: v.string(),
  before: v.nullable(v.string()),
  after: v.nullable(v.string()),
  /** The directory of the file: {@link repositoryPath}'s, unless a test replaces it. */
  directory: v.string(),
});
export type WrittenChange = v.InferOutput<typeof Change>;

const Refusal = v.strictObject({ code: v.string(), reason: v.string() });

/** What a run is to write. @throws the errors of the file system, the JSON parser and valibot */
export function readChange(directory: string): WrittenChange {
  return v.parse(Change, parseJson(readFileSync(join(directory, REPOSITORY_FILES.change), "utf8")));
}

/** Why a run changed nothing; null if it gave no reason. */
export function readWriteRefusal(directory: string): { code: ErrorCode; reason: string } | null {
  try {
    const text = readFileSync(join(directory, REPOSITORY_FILES.refusal), "utf8");
    const { code, reason } = v.parse(Refusal, parseJson(text));
    return { code: isErrorCode(code) ? code : "internal", reason };
  } catch {
    return null;
  }
}

/** The file that a change is about. */
export function changedPath({ directory, name }: Pick<WrittenChange, "directory" | "name">): string {
  return join(directory, basename(repositoryPath(name)));
}

/**
 * A file's state as it is compared: its digest, `root` and mode only where they are not what apt expects; null without a file.
 * @throws AegisError `io`
 */
export function fileState(path: string, owner = 0): string | null {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return null;
  if (!stat.isFile()) return "not a regular file";
  if (stat.size > MAX_REPOSITORY_FILE * 4) return `a file of ${stat.size} bytes`;
  const text = `sha256:${sha256Hex(readFileLimited(path, MAX_REPOSITORY_FILE * 4))}`;
  const mode = stat.mode & 0o7777;
  if (stat.uid === owner && (mode & 0o022) === 0 && (mode & 0o444) === 0o444) return text;
  return `${text}, mode ${mode.toString(8)}, of uid ${stat.uid}`;
}

/** Removes temporary files that a killed writer left. */
export function sweepTemporary({ directory, name }: Pick<WrittenChange, "directory" | "name">): void {
  for (const file of namesIn(directory)) {
    const isOurs = file.startsWith(`.${name}.sources.`) && /\.[0-9a-f-]{36}\.aegis$/.test(file);
    if (isOurs) rmSync(join(directory, file), { force: true });
  }
}

/** Runs the writer. Returns its exit status; a refusal leaves its reason in the run's directory. */
export function writeRepository(directory: string, note: (line: string) => void): 0 | 1 {
  try {
    const change = readChange(directory);
    exchange(change, () => {
      if (!createFileExclusive(join(directory, REPOSITORY_FILES.decision), REPOSITORY_DECISION.exchange))
        throw new AegisError("interrupted", "it was told to stop");
    });
    note(`${change.after === null ? "removed" : "wrote"} ${changedPath(change)}`);
    return 0;
  } catch (error) {
    const code = error instanceof AegisError ? error.code : "execution_failed";
    note(`nothing was changed: ${messageOf(error)}`);
    // A full disk may be the reason.
    rmSync(join(directory, REPOSITORY_FILES.reserve), { force: true });
    const text = canonicalJson({ code, reason: messageOf(error).slice(0, 2000) });
    writeFileAtomic(join(directory, REPOSITORY_FILES.refusal), text);
    return 1;
  }
}

/** `claim` is called last before the change; from then on nobody stops it. @throws AegisError `drift`, `execution_failed`, as `claim` */
function exchange(change: WrittenChange, claim: () => void): void {
  const { directory, name, before, after } = change;
  const path = changedPath(change);
  const temporary = join(directory, `.${name}.sources.${randomUUID()}.aegis`);
  try {
    if (after !== null) writeNew(temporary, after);
    refuseChanged(path, before);
    claim();
    if (after === null) unlinkSync(path);
    else renameSync(temporary, path);
    syncDirectory(directory);
  } catch (error) {
    rmSync(temporary, { force: true });
    if (error instanceof AegisError) throw error;
    throw new AegisError("execution_failed", `can't write ${path}: ${errnoOf(error) || messageOf(error)}`);
  }
}

function writeNew(path: string, text: string): void {
  const fd = openSync(path, "wx", 0o644);
  try {
    fchownSync(fd, -1, process.getuid?.() === 0 ? 0 : -1);
    // Whatever the umask is: apt's download user reads it too.
    fchmodSync(fd, 0o644);
    writeFully(fd, Buffer.from(text));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The host was compared with the plan before the run; between that and now somebody may have edited the file. */
function refuseChanged(path: string, before: string | null): void {
  const expected = before === null ? null : `sha256:${sha256Hex(before)}`;
  const found = fileState(path, process.getuid?.() ?? 0);
  if (found === expected) return;
  throw new AegisError("drift", `${path} has changed since the plan: it is ${found ?? "gone"}`);
}
