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
/** Tags that hold in our builds beside the operating system and architecture. Releases of Go are taken to hold. */
const TRUE_TAGS = /^(?:linux|unix|gc|go1\.\d+)$/;

export interface GoPackage {
  /** Import paths, `C` for cgo among them. */
  imports: string[];
  /** Files of machine code or assembly. */
  native: string[];
}

/** A package by the files of its directory, for Linux on `architecture` (Go's name); null where it has no Go file at all. */
export function readGoPackage(
  files: readonly { name: string; data: ArchiveFile["data"] }[],
  architecture: string,
): GoPackage | null {
  const imports = new Set<string>();
  const native: string[] = [];
  let isPackage = false;
  for (const { name, data } of files) {
    if (/^[._]/.test(name) || !matchesName(name, architecture)) continue;
    if (/\.(?:s|S|sx|syso)$/.test(name)) native.push(name);
    if (!name.endsWith(".go") || name.endsWith("_test.go")) continue;
    const text = Buffer.from(data).toString("utf8");
    isPackage = true;
    const found = importsOf(text);
    // Without cgo a file that imports "C" is left out of the build, like one whose constraint doesn't hold.
    if (found.includes("C")) imports.add("C");
    else if (holds(text, architecture)) for (const path of found) imports.add(path);
  }
  return isPackage ? { imports: [...imports].sort(), native } : null;
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

/** Whether the file's `//go:build` line holds. A line that can't be read counts as holding: more is looked at, not less. */
function holds(text: string, architecture: string): boolean {
  const line = /^(?:[^\S\n]*(?:\/\/[^\n]*)?\n|\/\*[\s\S]*?\*\/\s*)*?\/\/go:build ([^\n]*)$/m.exec(
    beforePackage(text),
  )?.[1];
  if (line === undefined) return true;
  const tokens = line.match(/&&|\|\||[!()]|[\w.]+/g) ?? [];
  let at = 0;
  const isTrue = (tag: string) => TRUE_TAGS.test(tag) || tag === architecture;
  const unary = (): boolean => {
    const token = tokens[at++];
    if (token === "!") return !unary();
    if (token !== "(") return isTrue(token ?? "");
    const value = either();
    at++;
    return value;
  };
  const both = (): boolean => {
    let value = unary();
    while (tokens[at] === "&&") {
      at++;
      const right = unary();
      value = value && right;
    }
    return value;
  };
  const either = (): boolean => {
    let value = both();
    while (tokens[at] === "||") {
      at++;
      const right = both();
      value = value || right;
    }
    return value;
  };
  const value = either();
  return at === tokens.length ? value : true;
}

function beforePackage(text: string): string {
  const at = text.search(/^package\s/m);
  return at < 0 ? text : text.slice(0, at);
}

/** The import paths of a Go file: its import declarations stand before everything else. */
export function importsOf(text: string): string[] {
  const paths: string[] = [];
  const scanner =
    /\s+|;|\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"\\\n]|\\.)*"|`[^`]*`|[\p{L}_][\p{L}\p{Nd}_]*|[.()]|[\s\S]/uy;
  let state: "start" | "name" | "between" | "import" | "group" = "start";
  for (let match = scanner.exec(text); match !== null; match = scanner.exec(text)) {
    const [token] = match;
    if (/^(?:\s|;|\/\/|\/\*)/.test(token)) continue;
    if (state === "start") {
      if (token !== "package") return paths;
      state = "name";
    } else if (state === "name") state = "between";
    else if (state === "between") {
      if (token !== "import") return paths;
      state = "import";
    } else if (token === "(" && state === "import") state = "group";
    else if (token === ")" && state === "group") state = "between";
    else if (/^["`]/.test(token)) {
      paths.push(token.slice(1, -1));
      if (state === "import") state = "between";
    } else if (token !== "." && !/^[\p{L}_]/u.test(token)) return paths;
  }
  return paths;
}
