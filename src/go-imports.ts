import type { ArchiveFile } from "./eco-archive.ts";

/*
 * Which packages a package needs, by its source: what decides which modules' files a build reads. Go's grammar at the beginning of a
 * file, and build constraints (https://pkg.go.dev/cmd/go#hdr-Build_constraints), for Linux with cgo off.
 */

/** Operating systems and architectures that a file's name may be for, where that excludes it from a build for Linux. */
const OTHER_SYSTEMS =
  /^(?:aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|nacl|netbsd|openbsd|plan9|solaris|wasip1|windows|zos)$/;
const ARCHITECTURES =
  /^(?:386|amd64|arm|arm64|loong64|mips|mips64|mips64le|mipsle|ppc64|ppc64le|riscv64|s390x|wasm)$/;
/** Tags that hold in our builds beside the operating system and architecture. */
const TRUE_TAGS = /^(?:linux|unix|gc)$/;
/** For whom packages are read. */
export interface GoBuild {
  /** As Go calls it. */
  architecture: string;
  /** The go command's release: 19 for go1.19.8. Null where it isn't known: constraints on it are then open. */
  release: number | null;
}

export interface GoPackage {
  /** Import paths, `C` for cgo among them. */
  imports: string[];
  /** Those of them that are certainly part of the build; the others depend on what isn't known of the go command. */
  certain: string[];
  /** Files of machine code or assembly. */
  native: string[];
  /** Whether a Go file is left once those that use C are left out. */
  buildable: boolean;
  /** Whether it is a program, rather than a library. */
  isCommand: boolean;
}

/** A package by the files of its directory, for Linux; null where it has no Go file at all. */
export function readGoPackage(
  files: readonly { name: string; data: ArchiveFile["data"] }[],
  build: GoBuild,
): GoPackage | null {
  const { architecture } = build;
  const certain = new Set<string>();
  const imports = new Set<string>();
  const native: string[] = [];
  let isPackage = false;
  let [buildable, isCommand] = [false, false];
  for (const { name, data } of files) {
    if (/^[._]/.test(name) || !matchesName(name, architecture)) continue;
    if (/\.(?:s|S|sx|syso)$/.test(name)) native.push(name);
    if (!name.endsWith(".go") || name.endsWith("_test.go")) continue;
    const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("utf8");
    isPackage = true;
    const { name: packageName, imports: found } = readGoHead(text);
    // Without cgo a file that imports "C" is left out of the build, like one whose constraint doesn't hold.
    const usesC = found.includes("C");
    const truth = holds(text, build, usesC);
    if (truth === false) continue;
    buildable ||= !usesC;
    isCommand ||= !usesC && packageName === "main";
    for (const path of usesC ? ["C"] : found) {
      imports.add(path);
      if (truth === true) certain.add(path);
    }
  }
  return isPackage
    ? { imports: [...imports].sort(), certain: [...certain].sort(), native, buildable, isCommand }
    : null;
}

/** `name_<system>.go`, `name_<architecture>.go`, `name_<system>_<architecture>.go`. */
function matchesName(name: string, architecture: string): boolean {
  const words = name
    .replace(/\.[^.]*$/, "")
    .split("_")
    .slice(1);
  const [last = "", before = ""] = words.toReversed();
  if (OTHER_SYSTEMS.test(last)) return false;
  if (!ARCHITECTURES.test(last)) return true;
  return last === architecture && !OTHER_SYSTEMS.test(before);
}

/** True, false, or null for what isn't known of the go command. */
type Truth = boolean | null;
const not = (a: Truth): Truth => (a === null ? null : !a);
const both = (a: Truth, b: Truth): Truth => (a === false || b === false ? false : a === null ? null : b);
const either = (a: Truth, b: Truth): Truth => not(both(not(a), not(b)));

const BUILD_LINE = /^(?:[^\S\n]*(?:\/\/[^\n]*)?\r?\n|\/\*[\s\S]*?\*\/\s*)*?\/\/go:build ([^\n]*)$/m;

/**
 * Whether the file's build constraint holds, with cgo or without; null for one that can't be read. https://pkg.go.dev/go/build/constraint
 */
function holds(text: string, { architecture, release }: GoBuild, cgo: boolean): Truth {
  const isTrue = (tag: string): Truth => {
    const [, minor] = /^go1\.(\d+)$/.exec(tag) ?? [];
    if (minor !== undefined) return release === null ? null : Number(minor) <= release;
    if (tag.startsWith("goexperiment.")) return null;
    return TRUE_TAGS.test(tag) || tag === architecture || (cgo && tag === "cgo");
  };
  const head = beforePackage(text);
  const line = head.includes("//go:build") ? BUILD_LINE.exec(head)?.[1] : undefined;
  if (line !== undefined) return evaluate(line, isTrue);
  const older = [...head.matchAll(/^\/\/[^\S\n]*\+build[^\S\n]+([^\n]*)$/gm)];
  return older.map(([, options = ""]) => oneOf(options, isTrue)).reduce(both, true);
}

/** The older form: options with white space between, one of which must hold; in each, terms with commas between, which all must. */
function oneOf(options: string, isTrue: (tag: string) => Truth): Truth {
  const term = (text: string) => (text.startsWith("!") ? not(isTrue(text.slice(1))) : isTrue(text));
  return options
    .trim()
    .split(/\s+/)
    .map((option) => option.split(",").map(term).reduce(both))
    .reduce(either);
}

function evaluate(line: string, isTrue: (tag: string) => Truth): Truth {
  const tokens = line.match(/&&|\|\||[!()]|[\w.]+/g) ?? [];
  let at = 0;
  const unary = (): Truth => {
    const token = tokens[at++];
    if (token === "!") return not(unary());
    if (token !== "(") return isTrue(token ?? "");
    const value = anyOf();
    at++;
    return value;
  };
  const allOf = (): Truth => {
    let value = unary();
    while (tokens[at] === "&&") {
      at++;
      value = both(value, unary());
    }
    return value;
  };
  const anyOf = (): Truth => {
    let value = allOf();
    while (tokens[at] === "||") {
      at++;
      value = either(value, allOf());
    }
    return value;
  };
  const value = anyOf();
  return at === tokens.length ? value : null;
}

function beforePackage(text: string): string {
  const at = text.search(/^package\s/m);
  return at < 0 ? text : text.slice(0, at);
}

/** A Go file's package name and import paths: they stand before everything else. */
export function readGoHead(text: string): { name: string; imports: string[] } {
  const head = { name: "", imports: [] as string[] };
  const scanner =
    /\s+|;|\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"\\\n]|\\.)*"|`[^`]*`|[\p{L}_][\p{L}\p{Nd}_]*|[.()]|[\s\S]/uy;
  let state: "start" | "name" | "between" | "import" | "group" = "start";
  for (let match = scanner.exec(text); match !== null; match = scanner.exec(text)) {
    const [token] = match;
    if (/^(?:\s|;|\/\/|\/\*)/.test(token)) continue;
    if (state === "start") {
      if (token !== "package") return head;
      state = "name";
    } else if (state === "name") {
      head.name = token;
      state = "between";
    } else if (state === "between") {
      if (token !== "import") return head;
      state = "import";
    } else if (token === "(" && state === "import") state = "group";
    else if (token === ")" && state === "group") state = "between";
    else if (/^["`]/.test(token)) {
      head.imports.push(token.slice(1, -1));
      if (state === "import") state = "between";
    } else if (token !== "." && !/^[\p{L}_]/u.test(token)) return head;
  }
  return head;
}
