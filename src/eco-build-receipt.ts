import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { canonicalJson, parseJson, UUID } from "./canonical.ts";
import { ExecutableSchema } from "./doc-result.ts";
import { LeftRoot } from "./eco-record.ts";
import { AegisError, type ErrorCode, errnoOf, isErrorCode, messageOf } from "./errors.ts";
import { writeFileAtomic } from "./sys-files.ts";

/*
 * What the supervisor of a build leaves in the run's directory, which only root can write.
 */

/** Names inside a run directory, beside those of eco-run.ts. */
export const BUILD_FILES = {
  /** What is to be built. */
  run: "build.json",
  /** Created by whoever decides first: the supervisor, to exchange, or the runner, to stop. */
  decision: "decision",
  receipt: "receipt.json",
  /** Why it was refused. */
  refusal: "refusal.json",
  /** Room on the disk for the reason, should the disk be full. */
  reserve: "reserve",
  /** Locked as long as the supervisor is alive. */
  alive: "alive",
  /** Locked as long as anything in the sandbox is alive. */
  inside: "inside",
  /** An empty directory: the root of sandboxes. */
  sandbox: "sandbox",
} as const;

/** Content of the decision file. */
export const DECISION = { stopped: "stopped", exchange: "exchange" } as const;

const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));

/** Written before the root is exchanged: what it was made from, and what it will be. */
const Receipt = v.strictObject({
  /** The name of the managed root. */
  root: v.string(),
  /** SHA-256 of each signed file that was used, sorted. */
  files: v.array(sha256),
  /** Of the root before and after: treeDigest. */
  tree_before: sha256,
  tree_after: sha256,
  /** The directory that becomes the root. */
  directory_id: v.string(),
  /** For the log: what the files must be. Receipts of earlier builds lack it. */
  left: v.optional(v.nullable(LeftRoot), null),
  executables: v.array(ExecutableSchema),
  /** Directories taken whole that are in the root before and after, in paths below it: see keepOldDirectories. */
  shared: v.optional(v.array(v.string()), []),
  /** The execution that a rollback undoes. */
  undoes: v.optional(v.nullable(v.pipe(v.string(), v.regex(UUID))), null),
});
export type BuildReceipt = v.InferOutput<typeof Receipt>;

const Refusal = v.strictObject({ code: v.string(), reason: v.string() });

export function writeBuildReceipt(directory: string, receipt: BuildReceipt): void {
  writeFileAtomic(join(directory, BUILD_FILES.receipt), canonicalJson(receipt));
}

/** The receipt in a run's directory; null if the run never came so far. @throws AegisError `io` for one that can't be read */
export function readBuildReceipt(directory: string): BuildReceipt | null {
  const text = textIn(directory, BUILD_FILES.receipt);
  if (text === null) return null;
  try {
    return v.parse(Receipt, parseJson(text));
  } catch (error) {
    throw new AegisError(
      "io",
      `${join(directory, BUILD_FILES.receipt)} can't be read: ${messageOf(error)}; another version of Aegis may have written it`,
      "Install that version again, which finishes the run; see: aegis daemon status",
    );
  }
}

export function writeRefusal(directory: string, code: ErrorCode, reason: string): void {
  writeFileAtomic(
    join(directory, BUILD_FILES.refusal),
    canonicalJson({ code, reason: reason.slice(0, 2000) }),
  );
}

export function readRefusal(directory: string): { code: ErrorCode; reason: string } | null {
  const text = textIn(directory, BUILD_FILES.refusal);
  if (text === null) return null;
  const { code, reason } = v.parse(Refusal, parseJson(text));
  return { code: isErrorCode(code) ? code : "internal", reason };
}

function textIn(directory: string, name: string): string | null {
  try {
    return readFileSync(join(directory, name), "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}
