import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";

/** Files of a run directory that the hook and the runner share. */
export const RUN_FILES = {
  /** The transaction that was signed, written by the runner before apt starts. */
  expected: "expected.json",
  /** Made by whichever comes first: the hook (dpkg may start) or the runner (the run is stopped). */
  decision: "decision",
  /** What the hook found. */
  receipt: "receipt.json",
} as const;

const Receipt = v.strictObject({
  ok: v.boolean(),
  reason: v.nullable(v.string()),
  /** SHA-256 of everything apt told the hook. */
  input_sha256: v.string(),
  files_checked: v.number(),
});
export type Receipt = v.InferOutput<typeof Receipt>;

/** The hook's receipt in a run directory, or null when apt never called it. */
export function readReceipt(directory: string): Receipt | null {
  try {
    return v.parse(Receipt, parseJson(readFileSync(join(directory, RUN_FILES.receipt), "utf8")));
  } catch {
    return null;
  }
}
