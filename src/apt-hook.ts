import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson, sha256Hex } from "./canonical.ts";
import { type Control, readControl } from "./deb-control.ts";
import { includesVersion, parseRelations, type Relation } from "./deb-relation.ts";
import { type TransactionEntry, TransactionEntry as TransactionEntrySchema } from "./documents.ts";
import { type DpkgPackage, parseDpkgStatus } from "./dpkg-status.ts";
import { AegisError, messageOf } from "./errors.ts";
import { createFileExclusive, rootOnlyProblem, writeFileAtomic } from "./files.ts";

/*
 * Aegis as apt's last hook before unpacking. apt hands `DPkg::Pre-Install-Pkgs` the final transaction and the package
 * files while it holds dpkg's lock (apt.conf(5), interface version 3); a non-zero exit leaves everything untouched.
 */

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

/** One package as apt is about to hand it to dpkg. */
export interface HookPackage {
  name: string;
  architecture: string;
  action: TransactionEntry["action"];
  from_version: string | null;
  to_version: string | null;
  /** The .deb, null for removals. */
  file: string | null;
}

/**
 * Parses what apt writes to the hook: `VERSION 3`, configuration, an empty line, then one line a step:
 * `name old-version old-arch old-multiarch op new-version new-arch new-multiarch action`.
 * @throws AegisError `hook_refused` for anything that is not exactly that
 */
export function parseHookInput(text: string): HookPackage[] {
  const split = text.indexOf("\n\n");
  if (!text.startsWith("VERSION 3\n") || split < 0)
    throw refuse("apt spoke another version of the hook's interface");
  const packages = new Map<string, HookPackage>();
  const configured: string[] = [];
  for (const line of text.slice(split + 2).split("\n")) {
    if (line === "") continue;
    const fields = line.split(" ");
    const [name, oldVersion, oldArch, , operator, newVersion, newArch] = fields;
    const action = fields.slice(8).join(" ");
    if (
      name === undefined ||
      oldVersion === undefined ||
      oldArch === undefined ||
      newVersion === undefined ||
      newArch === undefined ||
      action === ""
    ) {
      throw refuse(`a line that can't be read: ${line.slice(0, 200)}`);
    }
    if (action === "**CONFIGURE**") {
      configured.push(`${name}:${newArch}`);
      continue;
    }
    const removal = action === "**REMOVE**";
    if (!removal && !action.startsWith("/")) throw refuse(`${name} has no package file`);
    const step: HookPackage = removal
      ? {
          name,
          architecture: oldArch,
          action: "remove",
          from_version: oldVersion,
          to_version: null,
          file: null,
        }
      : {
          name,
          architecture: newArch,
          action: actionOf(oldVersion, operator ?? ""),
          from_version: oldVersion === "-" ? null : oldVersion,
          to_version: newVersion,
          file: action,
        };
    const key = `${step.name}:${step.architecture}`;
    if (packages.has(key)) throw refuse(`${key} stands twice in the transaction`);
    packages.set(key, step);
  }
  for (const key of configured) {
    if (!packages.has(key)) throw refuse(`${key} would be configured, which is not part of the plan`);
  }
  return [...packages.values()];
}

/** apt's operator compares the old version with the new one. */
function actionOf(oldVersion: string, operator: string): TransactionEntry["action"] {
  if (oldVersion === "-") return "install";
  switch (operator) {
    case "<":
      return "upgrade";
    case ">":
      return "downgrade";
    case "=":
      return "reinstall";
    default:
      throw refuse(`unknown operator ${operator}`);
  }
}

/**
 * Compares the steps with the signed transaction: the same packages, architectures, actions and versions, no more and
 * no less.
 * @throws AegisError `hook_refused`
 */
export function compareTransaction(
  steps: readonly HookPackage[],
  expected: readonly TransactionEntry[],
): void {
  const rest = new Map(expected.map((entry) => [`${entry.name}:${entry.architecture}`, entry]));
  for (const step of steps) {
    const key = `${step.name}:${step.architecture}`;
    const entry = rest.get(key);
    if (entry === undefined)
      throw refuse(`${key} (${step.action} ${step.to_version ?? ""}) is not in the plan`);
    for (const field of ["action", "from_version", "to_version"] as const) {
      if (step[field] !== entry[field]) {
        throw refuse(`${key}: ${field} is ${step[field] ?? "none"}, the plan says ${entry[field] ?? "none"}`);
      }
    }
    rest.delete(key);
  }
  const [missing] = rest.keys();
  if (missing !== undefined) throw refuse(`${missing} is in the plan but not in what apt is about to do`);
}

/**
 * Hashes every .deb and compares it with the plan. A file that someone but root could change after the look is refused.
 * Returns how many were checked.
 * @throws AegisError `hook_refused`
 */
export function checkFiles(steps: readonly HookPackage[], expected: readonly TransactionEntry[]): number {
  const wanted = new Map(expected.map((entry) => [`${entry.name}:${entry.architecture}`, entry]));
  let checked = 0;
  for (const { name, architecture, file } of steps) {
    if (file === null) continue;
    const entry = wanted.get(`${name}:${architecture}`);
    const problem = rootOnlyProblem(file);
    if (problem !== null) throw refuse(`${name}: ${problem}`);
    const { sha256, size } = hashFile(file);
    if (entry === undefined || sha256 !== entry.sha256) {
      throw refuse(`${file} has SHA-256 ${sha256}, the plan says ${entry?.sha256 ?? "nothing"}`);
    }
    if (size !== entry.size) throw refuse(`${file} has ${size} bytes, the plan says ${entry.size}`);
    checked++;
  }
  return checked;
}

/**
 * Compares what each .deb says of itself with the plan. The plan's words come from the repository's index, and an index
 * can lie: a file listed as one package may be another, which dpkg would install under its own name.
 * @throws AegisError `hook_refused`
 */
export function checkControl(
  steps: readonly HookPackage[],
  expected: readonly TransactionEntry[],
  read: (file: string) => Control,
): Control[] {
  const controls: Control[] = [];
  const essential = new Set(expected.filter((e) => e.essential).map((e) => `${e.name}:${e.architecture}`));
  for (const { name, architecture, to_version, file } of steps) {
    if (file === null) continue;
    const control = read(file);
    const pairs = [
      ["Package", control.name, name],
      ["Version", control.version, to_version],
      ["Architecture", control.architecture, architecture],
    ] as const;
    for (const [field, said, planned] of pairs) {
      if (said !== planned)
        throw refuse(`${file} calls its ${field} ${said}, the plan says ${planned ?? "none"}`);
    }
    if (control.essential && !essential.has(`${name}:${architecture}`)) {
      throw refuse(`${file} is an essential package, which the plan does not say`);
    }
    controls.push(control);
  }
  return controls;
}

/**
 * No .deb may exclude (Conflicts, Breaks) a package that is there when the plan is done: dpkg would remove or break it,
 * whatever the repository's index said. apt's own solution never has such a pair where the index tells the truth.
 * @throws AegisError `hook_refused`
 */
export function checkExclusions(
  controls: readonly Control[],
  expected: readonly TransactionEntry[],
  installed: ReadonlyMap<string, DpkgPackage>,
): void {
  const changed = new Set(expected.map((e) => `${e.name}:${e.architecture}`));
  const replaced = new Set(
    expected.filter((e) => e.from_version !== null).map((e) => `${e.name} ${e.from_version}`),
  );
  const staying = [...installed]
    .filter(
      ([key, p]) =>
        p.state !== "config-files" && !changed.has(key) && !replaced.has(`${p.name} ${p.version}`),
    )
    .map(([, p]) => ({ ...p, provides: parseRelations(p.provides) ?? [] }));
  const there = [...staying, ...controls];
  for (const control of controls) {
    for (const relation of control.excludes) {
      const hit = there.find((p) => p.name !== control.name && isMeant(relation, p));
      if (hit === undefined) continue;
      throw refuse(
        `${control.name} excludes ${relation.name}, and ${hit.name} ${hit.version} would be there: no plan says so`,
      );
    }
  }
}

/** Whether a relation speaks of this package, by its own name or by one that it provides. */
function isMeant(
  relation: Relation,
  p: { name: string; version: string; architecture: string; provides: readonly Relation[] },
): boolean {
  const ofArchitecture =
    relation.architecture === null ||
    relation.architecture === "any" ||
    relation.architecture === p.architecture;
  if (relation.name === p.name) return ofArchitecture && includesVersion(relation, p.version);
  return p.provides.some((q) => q.name === relation.name && includesVersion(relation, q.version));
}

/** SHA-256 and length of a file, read in pieces. */
export function hashFile(path: string): { sha256: string; size: number } {
  const hash = createHash("sha256");
  const fd = openSync(path, "r");
  try {
    const piece = Buffer.allocUnsafe(1 << 20);
    let size = 0;
    for (;;) {
      const n = readSync(fd, piece, 0, piece.length, null);
      if (n === 0) return { sha256: hash.digest("hex"), size };
      hash.update(piece.subarray(0, n));
      size += n;
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * The hook itself: reads apt's message, compares, leaves a receipt. Returns the exit status for apt.
 * The decision file is made before anything is compared: from then on the runner no longer stops the run.
 */
export function runAptHook(
  directory: string,
  input: string,
  note: (line: string) => void,
  read: (file: string) => Control = readControl,
): 0 | 1 {
  let checked = 0;
  let reason: string | null = null;
  try {
    if (!createFileExclusive(join(directory, RUN_FILES.decision), "hook"))
      throw refuse("the run was stopped before dpkg could start");
    const expected = v.parse(
      v.array(TransactionEntrySchema),
      parseJson(readFileSync(join(directory, RUN_FILES.expected), "utf8")),
    );
    const steps = parseHookInput(input);
    compareTransaction(steps, expected);
    checked = checkFiles(steps, expected);
    const controls = checkControl(steps, expected, read);
    checkExclusions(controls, expected, parseDpkgStatus(readFileSync("/var/lib/dpkg/status", "utf8")));
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

function refuse(why: string): AegisError {
  return new AegisError("hook_refused", why);
}
