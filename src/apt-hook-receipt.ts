import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";

/** Files in a run directory shared by the hook and the runner. */
export const RUN_FILES = {
  /** The signed transaction, written by the runner before apt starts. */
  expected: "expected.json",
  /** Created by whichever comes first: the hook (dpkg may start) or the runner (the run is stopped). */
  decision: "decision",
  /** The hook's result. */
  receipt: "receipt.json",
} as const;

const Receipt = v.strictObject({
  ok: v.boolean(),
  reason: v.nullable(v.string()),
  /** SHA-256 of the hook's complete input. */
  input_sha256: v.string(),
  files_checked: v.number(),
});
export type Receipt = v.InferOutput<typeof Receipt>;

/** The hook's receipt in a run directory; null if apt never called it. */
export function readReceipt(directory: string): Receipt | null {
  try {
    return v.parse(Receipt, parseJson(readFileSync(join(directory, RUN_FILES.receipt), "utf8")));
  } catch {
    return null;
  }
}
