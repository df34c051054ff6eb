import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import * as v from "valibot";
import { type DebControl, readControl } from "./apt-control.ts";
import { parseDpkgStatus } from "./apt-dpkg.ts";
import { packageFiles } from "./apt-hook-copy.ts";
import { checkControl, checkExclusions, checkFiles, checkTakenOver } from "./apt-hook-files.ts";
import { compareTransaction, parseHookInput } from "./apt-hook-input.ts";
import { type Receipt, RUN_FILES } from "./apt-hook-receipt.ts";
import { parseJson, sha256Hex } from "./canonical.ts";
import { TransactionEntry } from "./doc-plan.ts";
import { AegisError, messageOf } from "./errors.ts";
import { createFileExclusive, writeFileAtomic } from "./sys-files.ts";
import { STATE } from "./sys-state.ts";

/*
 * Aegis as apt's last hook before unpacking. apt passes `DPkg::Pre-Install-Pkgs` the final transaction and the package
 * files while holding dpkg's lock (apt.conf(5), interface version 3); a non-zero exit leaves everything untouched.
 */

/**
 * Runs the hook: checks apt's input against the plan and writes a receipt. Returns the exit status for apt. Creates the
 * decision file before comparing anything: from then on the runner no longer stops the run.
 */
export function runAptHook(
  directory: string,
  input: string,
  note: (line: string) => void,
  {
    archives = join(STATE.archives, basename(directory)),
    read = readControl,
  }: { archives?: string; read?: (file: string) => DebControl } = {},
): 0 | 1 {
  let checked = 0;
  let reason: string | null = null;
  try {
    if (!createFileExclusive(join(directory, RUN_FILES.decision), "hook"))
      throw new AegisError("hook_refused", "the run was stopped before dpkg could start");
    const expected = v.parse(
      v.array(TransactionEntry),
      parseJson(readFileSync(join(directory, RUN_FILES.expected), "utf8")),
    );
    const steps = parseHookInput(input);
    compareTransaction(steps, expected);
    checked = checkFiles(steps, expected, packageFiles(archives));
    const controls = checkControl(steps, expected, read);
    const installed = parseDpkgStatus(readFileSync("/var/lib/dpkg/status", "utf8"));
    checkExclusions(controls, expected, installed);
    checkTakenOver(controls, expected, installed);
  } catch (error) {
    reason = messageOf(error);
    note(`aegis: refused before unpacking: ${reason}`);
  }
  const receipt: Receipt = {
    ok: reason === null,
    reason,
    input_sha256: sha256Hex(input),
    files_checked: checked,
  };
  writeFileAtomic(join(directory, RUN_FILES.receipt), JSON.stringify(receipt));
  return reason === null ? 0 : 1;
}
