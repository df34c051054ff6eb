import { spawnSync } from "node:child_process";
import { readStanzas } from "./apt-deb822.ts";
import { parseRelations, type Relation } from "./apt-relation.ts";
import { AegisError } from "./errors.ts";
import { resolveProgram, SYSTEM_PATH } from "./sys-spawn.ts";

/** Control fields of a .deb (deb-control(5)). */
export interface DebControl {
  name: string;
  version: string;
  architecture: string;
  /** `Essential: yes` or `Protected: yes`, which dpkg guards alike. */
  essential: boolean;
  /** Packages that can't be installed together with it: Conflicts and Breaks. */
  excludes: Relation[];
  provides: Relation[];
  /** Packages whose files it may overwrite. */
  replaces: Relation[];
}

/**
 * Reads a .deb's control file with `dpkg-deb --field`.
 * @throws AegisError `hook_refused` if it can't be parsed unambiguously, `unavailable` without dpkg-deb
 */
export function readControl(file: string): DebControl {
  const program = resolveProgram("dpkg-deb");
  if (program === null) throw new AegisError("unavailable", "dpkg-deb is not installed");
  const { status, stdout } = spawnSync(program, ["--field", file], {
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
    timeout: 60_000,
    maxBuffer: 1024 * 1024,
    encoding: "utf8",
  });
  if (status !== 0) throw new AegisError("hook_refused", `dpkg-deb can't read ${file}`);
  return parseControl(stdout, file);
}

/**
 * Parses a control file: one stanza, without ambiguity.
 * @throws AegisError `hook_refused`
 */
export function parseControl(text: string, file: string): DebControl {
  const { stanzas, problem } = readStanzas(text);
  const [fields] = stanzas;
  if (problem !== null || fields === undefined || stanzas.length > 1) {
    throw new AegisError(
      "hook_refused",
      `${file}: its control file can't be read: ${problem ?? "not one stanza"}`,
    );
  }
  const relations = (name: string) => {
    const parsed = parseRelations(fields.get(name) ?? "");
    if (parsed === null) throw new AegisError("hook_refused", `${file}: its ${name} can't be read`);
    return parsed;
  };
  const isYes = (name: string) => fields.get(name)?.toLowerCase() === "yes";
  return {
    name: fields.get("package") ?? "",
    version: fields.get("version") ?? "",
    architecture: fields.get("architecture") ?? "",
    essential: isYes("essential") || isYes("protected"),
    excludes: [...relations("conflicts"), ...relations("breaks")],
    provides: relations("provides"),
    replaces: relations("replaces"),
  };
}
