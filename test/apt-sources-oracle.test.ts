import { afterAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { AptSource } from "../src/apt-source.ts";
import { DEFAULT_APT_DIRS, readSources } from "../src/apt-sources.ts";
import { oneSource } from "../src/apt-transaction.ts";
import { listFileName } from "../src/apt-uri.ts";
import { ARMOR, line, separator, stanza } from "./apt-sources-arbitraries.ts";
import { needs } from "./needs.ts";

/*
 * The machine's own apt reads generated sources, and whatever it reads, Aegis must read alike or refuse. What apt itself
 * refuses ends every plan. AEGIS_TEST_APT_ROOT has the apt of another root read them, by chroot.
 */

const ROOT = process.env.AEGIS_TEST_APT_ROOT ?? "";
const DIRECTORY = mkdtempSync(join(ROOT === "" ? tmpdir() : join(ROOT, "tmp"), "aegis-sources-"));
afterAll(() => rmSync(DIRECTORY, { recursive: true, force: true }));
const inside = (path: string) => path.slice(ROOT.length);
const PARTS = join(DIRECTORY, "sources.list.d");
const LISTS = join(DIRECTORY, "lists");
const PROBE = "0".repeat(40);

/** apt-get without the machine's configuration. */
function run(...args: string[]) {
  const command = [...(ROOT === "" ? [] : ["chroot", ROOT]), "apt-get", "indextargets", ...args];
  return spawnSync(command[0] ?? "", command.slice(1), {
    env: {
      PATH: "/usr/bin:/usr/sbin:/bin",
      LC_ALL: "C.UTF-8",
      APT_CONFIG: inside(join(DIRECTORY, "apt.conf")),
    },
    encoding: "utf8",
    timeout: 20_000,
  });
}

/** Its output; null if it refuses. */
function apt(...args: string[]): string | null {
  const { status, stdout } = run(...args);
  return status === 0 ? stdout : null;
}

writeFileSync(
  join(DIRECTORY, "apt.conf"),
  [
    'Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null"; Dir::Etc::sourcelist "/dev/null";',
    `Dir::Etc::sourceparts "${inside(PARTS)}"; Dir::State::lists "${inside(LISTS)}";`,
    'APT::Architecture "amd64"; APT::Architectures { "amd64"; }; Acquire::Languages "none";',
  ].join("\n"),
);

interface Read {
  /** `site suite component file` of each index. */
  targets: string[];
  trusted: string[];
}

/** apt's result: its package indexes, and which sources it trusts unverified. Null if it refuses. */
function byApt(files: Record<string, string>): Read | null {
  for (const at of [PARTS, LISTS]) {
    rmSync(at, { recursive: true, force: true });
    mkdirSync(at);
  }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(PARTS, name), text);
  const format = "$(SITE)\t$(RELEASE)\t$(COMPONENT)\t$(FILENAME)\t$(TRUSTED)";
  const first = apt("--no-release-info", "--format", format, "Created-By: Packages");
  if (first === null) return null;
  const lines = first
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t"));
  for (const [, , , file = ""] of lines) {
    // A name too long for a file can't be compared.
    if (Buffer.byteLength(file.slice(file.lastIndexOf("/") + 1)) < 250) writeFileSync(`${ROOT}${file}`, "");
  }
  const second = apt("--format", format, "Created-By: Packages") ?? "";
  const trusted = second
    .split("\n")
    .map((line) => line.split("\t"))
    .filter((words) => words[4] === "yes");
  const name = (path = "") => path.slice(path.lastIndexOf("/") + 1);
  return {
    targets: distinct(
      lines.map(
        ([site, suite, component, file]) =>
          `${site} ${suite} ${component === "$(COMPONENT)" ? "" : component} ${name(file).replace(/binary-(?:all|i386)_/, "binary-amd64_")}`,
      ),
    ),
    trusted: distinct(trusted.map(([site, suite]) => `${site} ${suite}`)),
  };
}

function byAegis(files: Record<string, string>): { sources: AptSource[]; problems: string[] } {
  return readSources({ ...DEFAULT_APT_DIRS, sourceList: "/dev/null", sourceParts: PARTS }, "amd64", {
    readText: (path) => (path === "/dev/null" ? "" : (files[path.slice(PARTS.length + 1)] ?? null)),
    list: (path) => (path === PARTS ? Object.keys(files).sort() : []),
  });
}

/** The same from Aegis. */
function targetsOf(sources: readonly AptSource[]): Read {
  const shown = (suite: string) => (suite === "/" ? "" : suite);
  return {
    targets: distinct(
      sources.flatMap((source) =>
        source.suite.endsWith("/")
          ? [`${source.uri} ${shown(source.suite)}  ${listFileName(source, "Packages")}`]
          : source.components.map(
              (component) =>
                `${source.uri} ${source.suite} ${component} ${listFileName(source, `${component}/binary-amd64/Packages`)}`,
            ),
      ),
    ),
    trusted: distinct(sources.filter(({ trusted }) => trusted).map((s) => `${s.uri} ${shown(s.suite)}`)),
  };
}

function distinct(texts: readonly string[]): string[] {
  return [...new Set(texts)].sort();
}

/**
 * apt shows nobody its Signed-By, but for one case: another value for the same source is a conflict, and it names both.
 * Null where there is none.
 */
function signedByApt(files: Record<string, string>, { uri, suite, components }: AptSource): string | null {
  const flat = components.length === 0 ? "" : `Components: ${components.join(" ")}\n`;
  // Another value of Trusted would be a conflict too, and the first that apt sees.
  for (const trusted of ["", "Trusted: yes\n", "Trusted: no\n"]) {
    const probe = `Types: deb\nURIs: ${uri}/\nSuites: ${suite}\n${flat}${trusted}Signed-By: ${PROBE}\n`;
    writeFileSync(join(PARTS, "zz.sources"), probe);
    const { stderr } = run();
    if (stderr.includes("option Trusted")) continue;
    const [, found] =
      new RegExp(`option Signed-By regarding source [^]*?: ([^]*?) != ${PROBE}`).exec(stderr) ?? [];
    return found === undefined ? null : bare(found);
  }
  throw new Error(`apt conflicts with every probe of ${JSON.stringify(files)}`);
}

/** apt indents the lines of an error and drops empty ones. */
const bare = (text: string) =>
  text
    .split("\n")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .join("\n");
const joined = (signedBy: string | null) => {
  if (signedBy === null) return null;
  if (signedBy.includes("BEGIN PGP")) return bare(signedBy);
  return signedBy
    .split(/[ \t\n,]+/)
    .filter((word) => word !== "")
    .map((word) => (word.startsWith("/") ? word : word.toUpperCase()))
    .join(",");
};

let compared = 0;
function judge(files: Record<string, string>): void {
  const { sources, problems } = byAegis(files);
  if (problems.length > 0) return;
  const read = byApt(files);
  if (read === null) return;
  compared++;
  expect({ files, ...targetsOf(sources) }).toEqual({ files, ...read });
  for (const source of sources.slice(0, 1)) {
    // In a stanza like the probe it would have another meaning.
    if (source.suite.includes("$(ARCH)")) continue;
    expect([files, signedByApt(files, source)]).toEqual([files, joined(source.signedBy)]);
    // Alone, it is the same source.
    expect([files, byApt({ "one.sources": oneSource(source) })?.targets]).toEqual([
      files,
      targetsOf([source]).targets,
    ]);
  }
}

/** Limited: each case is up to four runs of apt. */
const RUNS = { numRuns: Number(process.env.AEGIS_TEST_RUNS ?? 60) };

needs(existsSync("/usr/bin/apt-get"), "apt").describe("apt is the judge of", () => {
  test("lines", () => {
    compared = 0;
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 2 }), (lines) =>
        judge({ "a.list": lines.join("\n") }),
      ),
      RUNS,
    );
    expect(compared).toBeGreaterThan(RUNS.numRuns / 10);
  }, 60_000);

  test("stanzas, whatever their lines end with", () => {
    compared = 0;
    const files = fc
      .tuple(
        fc.array(fc.tuple(stanza, separator), { minLength: 1, maxLength: 2 }),
        fc.constantFrom("\n", "\n", "\r\n", "\r\r\n"),
      )
      .map(([stanzas, ending]) => ({ "a.sources": stanzas.flat().join("").replaceAll("\n", ending) }));
    fc.assert(fc.property(files, judge), RUNS);
    expect(compared).toBeGreaterThan(RUNS.numRuns / 10);
  }, 60_000);

  test("files read, and their order", () => {
    const name = fc.constantFrom(
      "a.list",
      "b.sources",
      ".c.list",
      "d.list.save",
      "e:f.list",
      "g h.list",
      "-i.list",
      "_.list",
      "J.list",
      "é.list",
      "list",
      "k..list",
    );
    const content = (file: string, n: number) =>
      file.endsWith("sources")
        ? `Types: deb\nURIs: http${n % 2 === 0 ? "" : "s"}://x\nSuites: s\nComponents: c${n}\n`
        : `deb http${n % 2 === 0 ? "" : "s"}://x s c${n}\n`;
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 4 }), (names) =>
        judge(Object.fromEntries(names.map((file, n) => [file, content(file, n)]))),
      ),
      { numRuns: 20 },
    );
  }, 60_000);

  test("common hand-written forms, which are never refused", () => {
    const plain = [
      {
        "a.list":
          "deb http://deb.debian.org/debian bookworm main contrib # c\ndeb-src http://deb.debian.org/debian bookworm main\n",
      },
      {
        "a.list":
          "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] https://u:p@x.example:8443/a_b/ s main\r\n",
      },
      {
        "a.sources":
          "# c\nTypes: deb deb-src\nURIs: http://deb.debian.org/debian\nSuites: s s-updates\nComponents: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://[::1]/d\nSuites: a+b/\n",
      },
      {
        "a.sources": `Types: deb\r\nURIs: http://x\r\nSuites: s\r\nComponents: main\r\nSigned-By:${ARMOR.replaceAll("\n", "\r\n")}\r\n`,
      },
    ];
    for (const files of plain) {
      compared = 0;
      judge(files);
      expect({ files, compared }).toEqual({ files, compared: 1 });
    }
  }, 60_000);
});
