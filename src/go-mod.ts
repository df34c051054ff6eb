import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";

/*
 * What planning has to know of a go.mod; which versions its requirements come to is the go command's business. https://go.dev/ref/mod#go-mod-file
 */

export interface GoMod {
  /** The module's own path, or null where there is none. */
  module: string | null;
  /** Text of the `go` directive: `1.21`, `1.24.0`. */
  go: string | null;
  toolchain: string | null;
  require: { path: string; version: string }[];
  /** Directives that count only in a main module, each as it is written. */
  replace: string[];
  exclude: string[];
  retract: { from: string; to: string; why: string }[];
  /** Why the module is deprecated, by the comment on its module directive. */
  deprecated: string | null;
}

/** One word: bare, or quoted in one of Go's two ways. Brackets and commas stand alone. */
const WORD = /\/\/.*|"(?:[^"\\]|\\.)*"|`[^`]*`|=>|[()[\],]|[^\s"`()[\],]+/g;

/** Reads the directives; lines that can't be read are left to the go command, which refuses them. */
export function readGoMod(text: string): GoMod {
  const mod: GoMod = {
    ...{ module: null, go: null, toolchain: null, deprecated: null },
    ...{ require: [], replace: [], exclude: [], retract: [] },
  };
  let block: string | null = null;
  let comments: string[] = [];
  for (const line of text.split("\n")) {
    const all = line.match(WORD) ?? [];
    const comment =
      all
        .find((word) => word.startsWith("//"))
        ?.slice(2)
        .trim() ?? null;
    const words = all.filter((word) => !word.startsWith("//")).map(unquote);
    if (words.length === 0) {
      comments = comment === null ? [] : [...comments, comment];
      continue;
    }
    if (words[0] === ")") block = null;
    else if (block === null && words[1] === "(") block = words[0] ?? null;
    else {
      const [verb = "", ...rest] = block === null ? words : [block, ...words];
      const said = [...comments, ...(comment === null ? [] : [comment])];
      take(mod, verb, rest, said);
    }
    if (words[1] !== "(") comments = [];
  }
  return mod;
}

function take(mod: GoMod, verb: string, words: readonly string[], said: readonly string[]): void {
  const [first = "", second = ""] = words;
  if (verb === "module") {
    mod.module = first;
    const at = said.findIndex((text) => text.startsWith("Deprecated:"));
    if (at >= 0) mod.deprecated = said.slice(at).join(" ").slice("Deprecated:".length).trim();
  } else if (verb === "go") mod.go = first;
  else if (verb === "toolchain") mod.toolchain = first;
  else if (verb === "require") mod.require.push({ path: first, version: second });
  else if (verb === "replace" || verb === "exclude") mod[verb].push(words.join(" "));
  else if (verb === "retract") {
    const [from, to] = first === "[" ? [second, words[3] ?? second] : [first, first];
    mod.retract.push({ from, to, why: said.join(" ") });
  }
}

function unquote(word: string): string {
  return /^["`]/.test(word) ? word.slice(1, -1) : word;
}

/** Why a version was retracted by its own authors, in the go.mod of their newest version; null where it was not. */
export function retraction({ retract }: GoMod, version: string): string | null {
  const found = retract.find(
    ({ from, to }) => SEMVER.compare(from, version) <= 0 && SEMVER.compare(version, to) <= 0,
  );
  return found === undefined ? null : found.why === "" ? "no reason is given" : found.why;
}

/**
 * The go.mod of a main module that requires nothing but this module, under the Go version that the module asks for, so that a go
 * command that is too old for `go install` says so already in planning.
 * @throws AegisError `unavailable` for a module that `go install` refuses with a version
 */
export function planningGoMod(path: string, version: string, mod: GoMod): string {
  for (const verb of ["replace", "exclude"] as const) {
    const [first] = mod[verb];
    if (first !== undefined)
      throw new AegisError(
        "unavailable",
        `its go.mod has a ${verb} directive (${first}), and go install refuses such modules: they would be built from something else than their authors build`,
      );
  }
  const asked = /^1\.(\d+)(?:\.\d+|(?:rc|beta)\d+)?$/.exec(mod.go ?? "");
  const go = Number(asked?.[1] ?? 0) > 17 ? mod.go : "1.17";
  const toolchain = /^[a-z0-9.+-]+$/i.test(mod.toolchain ?? "") ? `toolchain ${mod.toolchain}\n\n` : "";
  return `module aegis.invalid/plan\n\ngo ${go}\n\n${toolchain}require ${path} ${version}\n`;
}
