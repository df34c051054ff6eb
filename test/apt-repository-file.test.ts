import { afterAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { canonicalRepository, readRepository, repositoryText } from "../src/apt-repository-file.ts";
import { parseDeb822Sources } from "../src/apt-source-stanzas.ts";
import { fixture } from "./apt-kit.ts";
import { needs } from "./needs.ts";

const ARMOR = fixture("keys/repository/ed25519.asc");
const KEY = Buffer.from(ARMOR);
const PLAIN = "Types: deb\nURIs: https://vendor.example/debian\nSuites: stable\nComponents: main\n";
/** The key as it is embedded in a stanza. */
const EMBEDDED = `Signed-By:\n${ARMOR.trimEnd()
  .split("\n")
  .map((line) => ` ${line === "" ? "." : line}`)
  .join("\n")}\n`;
const changed = (from: string | RegExp, to: string) => PLAIN.replace(from, to);

describe("stanzas that are refused", () => {
  test.each<[what: string, text: string, why: string]>([
    // Newline tricks: what is one line in an editor may be two to apt, or the other way round.
    ["a field behind a carriage return", changed("main", "main\rTrusted: yes"), "U+000D"],
    ["lines that end in CRLF", PLAIN.replaceAll("\n", "\r\n"), "U+000D"],
    ["a field behind NEL", changed("main", "main\u0085Trusted: yes"), "U+0085"],
    ["a field behind a line separator", changed("main", "main\u2028Trusted: yes"), "U+2028"],
    ["a field behind a form feed", changed("main", "main\fTrusted: yes"), "U+000C"],
    ["a field behind a vertical tab", changed("main", "main\vTrusted: yes"), "U+000B"],
    ["a NUL", changed("main", "main\0"), "U+0000"],
    ["a field in a continuation line", changed("main", "main\n Trusted: yes"), "goes on in another line"],
    ["a component in a continuation line", changed("main", "main\n contrib"), "goes on in another line"],
    [
      "an address behind a comment",
      changed("debian\n", "debian\n#\n https://evil.example/\n"),
      "goes on in another line",
    ],
    ["a right-to-left override in a comment", `# \u202e\n${PLAIN}`, "line 1 has the character U+202E"],
    ["a no-break space", changed("deb\n", "deb\u00a0\n"), "U+00A0"],
    ["not UTF-8", changed("main", "ma\ufffdin"), "U+FFFD"],
    ["a second stanza", `${PLAIN}\n${changed("stable", "testing")}`, "2 stanzas"],
    ["a second stanza behind a comment", `${PLAIN}\n# x\n\nTypes: deb\n`, "2 stanzas"],
    ["a blank line that ends nothing", `${PLAIN} \nTrusted: yes\n`, "Components goes on"],
    ["a field twice", `${PLAIN}Suites: testing\n`, "a second field Suites"],
    ["a field twice in another case", `${PLAIN}SUITES: testing\n`, "a second field SUITES"],
    ["a blank before the colon", changed("Suites:", "Suites :"), "is not a field"],
    ["no stanza", "# nothing\n", "no stanza"],
    ["nothing", "", "no stanza"],
    ["a one-line source", "deb https://vendor.example/debian stable main\n", "is not a field"],
    // Options that switch off a check.
    ["Trusted", `${PLAIN}Trusted: yes\n`, "Trusted is not allowed"],
    ["Trusted: no", `${PLAIN}Trusted: no\n`, "Trusted is not allowed"],
    ["trusted in another case", `${PLAIN}tRuStEd: yes\n`, "Trusted is not allowed"],
    ["Allow-Insecure", `${PLAIN}Allow-Insecure: yes\n`, "Allow-Insecure is not allowed"],
    ["Allow-Weak", `${PLAIN}Allow-Weak: yes\n`, "Allow-Weak is not allowed"],
    [
      "Allow-Downgrade-To-Insecure",
      `${PLAIN}Allow-Downgrade-To-Insecure: yes\n`,
      "Allow-Downgrade-To-Insecure is",
    ],
    ["Check-Valid-Until", `${PLAIN}Check-Valid-Until: no\n`, "Check-Valid-Until is not allowed"],
    ["Valid-Until-Max", `${PLAIN}Valid-Until-Max: 999999999\n`, "Valid-Until-Max is not allowed"],
    ["Check-Date", `${PLAIN}Check-Date: no\n`, "Check-Date is not allowed"],
    ["InRelease-Path", `${PLAIN}InRelease-Path: ../x\n`, "Inrelease-Path is not allowed"],
    ["Snapshot", `${PLAIN}Snapshot: 20240101T000000Z\n`, "Snapshot is not allowed"],
    ["Targets", `${PLAIN}Targets: Packages\n`, "Targets is not allowed"],
    ["By-Hash", `${PLAIN}By-Hash: no\n`, "By-Hash is not allowed"],
    [
      "an unknown field",
      `${PLAIN}X-Repolib-Name: Vendor\n`,
      "X-Repolib-Name is a field that Aegis doesn't write",
    ],
    ["a field named constructor", `${PLAIN}constructor: x\n`, "Constructor is a field that"],
    ["switched off", `${PLAIN}Enabled: no\n`, "Enabled is not yes"],
    ["switched off in apt's other words", `${PLAIN}Enabled: without\n`, "Enabled is not yes"],
    // Keys.
    ["a keyring of its own", `${PLAIN}Signed-By: /usr/share/keyrings/evil.gpg\n`, "names a place of its own"],
    ["a fingerprint", `${PLAIN}Signed-By: ${"A".repeat(40)}\n`, "names a place of its own"],
    ["an embedded key beside --key", PLAIN + EMBEDDED, "only one of them can be meant"],
    // Addresses.
    ["a user and password", changed("https://", "https://me:secret@"), "a user or password"],
    ["a token", changed("https://", "https://token@"), "a user or password"],
    ["file:", changed("https://vendor.example", "file:"), "file: is no web address"],
    ["copy:", changed("https://vendor.example", "copy:"), "copy: is no web address"],
    ["cdrom:", changed("https://vendor.example", "cdrom:[x]"), "cdrom: is no web address"],
    ["ssh:", changed("https:", "ssh:"), "ssh: is no web address"],
    ["mirror+https:", changed("https:", "mirror+https:"), "mirror+https: is no web address"],
    ["mirror+file:", changed("https://vendor.example", "mirror+file:"), "mirror+file: is no web address"],
    ["tor+https:", changed("https:", "tor+https:"), "tor+https: is no web address"],
    ["FILE:", changed("https://vendor.example", "FILE:"), "file: is no web address"],
    ["no scheme", changed("https://vendor.example", "vendor.example"), "begins with https://"],
    ["a capital scheme", changed("https:", "HTTPS:"), "is not a plain http or https address"],
    ["a capital host", changed("vendor.example", "Vendor.example"), "is not a plain http or https address"],
    ["no host", changed("vendor.example", ""), "is not a plain http or https address"],
    ["a query", changed("/debian", "/debian?x=1"), "is not a plain http or https address"],
    ["percent signs", changed("/debian", "/%64ebian"), "is not a plain http or https address"],
    ["$(ARCH)", changed("/debian", "/$(ARCH)"), "is not a plain http or https address"],
    ["a step up", changed("/debian", "/a/../debian"), "has . or .."],
    ["two slashes", changed("/debian", "//debian"), "is not a plain http or https address"],
    ["a comma", changed("/debian", "/debian,x"), "is not a plain http or https address"],
    ["the same address twice", changed("/debian", "/debian https://vendor.example/debian"), "twice"],
    [
      "http beside https",
      changed("URIs: ", "URIs: http://vendor.example/debian "),
      "two of its addresses for one",
    ],
    [
      "with and without a slash",
      changed("/debian", "/debian https://vendor.example/debian/"),
      "two of its addresses",
    ],
    // Suites, components and the rest.
    ["no Types", changed("Types: deb\n", ""), "it has no Types"],
    ["no address", changed(/URIs.*\n/, ""), "it has no URIs"],
    ["no suite", changed(/Suites.*\n/, ""), "it has no Suites"],
    ["no component", changed(/Components.*\n/, ""), "the suite stable needs Components"],
    ["a path with components", changed("stable", "stable/"), "the suite stable/ is a path"],
    ["a step up in the suite", changed("stable", "../stable"), "is not a suite"],
    ["an empty step in the suite", changed("stable", "a//b"), "is not a suite"],
    ["a suite in brackets", changed("stable", "[stable]"), "is not a suite"],
    ["a component with a colon", changed("main", "Trusted:"), "is not a component"],
    ["a foreign type", changed("deb\n", "rpm\n"), "is not deb or deb-src"],
    ["sources only", changed("deb\n", "deb-src\n"), "Types lacks deb"],
    ["an architecture with a comma", `${PLAIN}Architectures: amd64,i386\n`, "is not an architecture"],
    [
      "more words than anybody means",
      changed("main", Array.from({ length: 17 }, (_, n) => `c${n}`).join(" ")),
      "more than 16",
    ],
    ["larger than any", `${PLAIN}${"#\n".repeat(40_000)}`, "larger than"],
  ])("%s", (_, text, why) => {
    expect(() => readRepository(text, KEY)).toThrow(
      expect.objectContaining({ code: "invalid_target", message: expect.stringContaining(why) }),
    );
  });

  test("without a key, and how to give one", () =>
    expect(() => readRepository(PLAIN)).toThrow(
      expect.objectContaining({
        message: expect.stringContaining("it has no key"),
        hint: expect.stringContaining("--key <file>"),
      }),
    ));
  test("two keys embedded", () => {
    const two = fixture("keys/repository/two.asc").trimEnd().replaceAll(/^/gm, " ").replaceAll(/^ $/gm, " .");
    expect(() => readRepository(`${PLAIN}Signed-By:\n${two}\n`)).toThrow("holds 2 primary keys");
  });
  test("a password is not repeated", () =>
    expect(() => readRepository(changed("https://", "https://me:hunter2@"), KEY)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining("hunter2") }),
    ));
});

describe("what is written", () => {
  const written = (text: string, key?: Uint8Array) => repositoryText("vendor", readRepository(text, key));
  const FILE = `# Written by Aegis. To take it away: aegis plan apt remove-repository vendor\n${PLAIN}${EMBEDDED}`;

  test.each<[what: string, text: string, key: Uint8Array | undefined]>([
    ["from a stanza and a key", PLAIN, KEY],
    ["from a stanza that embeds its key", PLAIN + EMBEDDED, undefined],
    ["again", FILE, undefined],
    ["comments and Enabled: yes don't come along", `# hello\n${PLAIN}# x\nEnabled: yes\n`, KEY],
    [
      "nor do order, case and blanks",
      "COMPONENTS:   main\nsuites:\tstable\nuris: https://vendor.example/debian \ntypes: deb",
      KEY,
    ],
  ])("%s", (_, text, key) => expect(written(text, key)).toBe(FILE));

  test("what isn't byte for byte so is not ours", () => {
    expect(canonicalRepository("vendor", FILE)).not.toBeNull();
    for (const other of [
      `${FILE}\n`,
      `${FILE}Trusted: yes\n`,
      FILE.replace("main", "main "),
      PLAIN + EMBEDDED,
    ])
      expect(canonicalRepository("vendor", other)).toBeNull();
    expect(canonicalRepository("other", FILE)).toBeNull();
  });
});

/* The machine's own apt reads what Aegis writes: the same indexes, no option, no warning. */

const DIRECTORY = mkdtempSync(join(tmpdir(), "aegis-repository-file-"));
afterAll(() => rmSync(DIRECTORY, { recursive: true, force: true }));

const mostly = (plain: string, ...odd: string[]) =>
  fc.oneof({ weight: 8, arbitrary: fc.constant(plain) }, { weight: 1, arbitrary: fc.constantFrom(...odd) });
const uri = fc
  .tuple(
    mostly("https://", "http://", "file:", "mirror+http://"),
    mostly("x.example", "127.0.0.1:8080", "[::1]:80", "u:p@x", "X", "x:0", "-x"),
    mostly("/d", "", "/", "/d/", "/core:/stable:/v1.30/deb/", "/a+b~c", "//d", "/a%20b", "/$(ARCH)", "/./d"),
  )
  .map((parts) => parts.join(""));
const suite = mostly("s", "t-u", "s~1", "./", "/", "a/b", "d/", "./d/", "$(ARCH)", ".", "s%41", "é");
const component = mostly("main", "a/b", "con+trib", "Trusted:", ".", "é", "[trusted=yes]");
const words = (word: fc.Arbitrary<string>) =>
  fc.uniqueArray(word, { minLength: 1, maxLength: 2 }).map((some) => some.join(" "));
const stanza = fc
  .tuple(
    mostly("deb", "deb deb-src", "deb-src"),
    words(uri),
    words(suite),
    fc.oneof(words(component), fc.constant("")),
    mostly(
      "",
      "Architectures: amd64\n",
      "Architectures: amd64 i386\n",
      "Enabled: yes\n",
      "Trusted: yes\n",
      "Components: x\n",
    ),
    mostly("\n", " \n", "\n\n", "\n ", "\r\n", "\n#"),
  )
  .map(([types, uris, suites, components, more, end]) =>
    [`Types: ${types}`, `URIs: ${uris}`, `Suites: ${suites}${end}`]
      .join("\n")
      .concat(components === "" ? "" : `Components: ${components}\n`, more),
  );

needs(existsSync("/usr/bin/apt-get"), "apt").test(
  "whatever is accepted, apt reads alike, and trusts by its key only",
  () => {
    let accepted = 0;
    fc.assert(
      fc.property(stanza, (text) => {
        let file: ReturnType<typeof readRepository>;
        try {
          file = readRepository(text, KEY);
        } catch {
          return;
        }
        accepted++;
        const written = repositoryText("vendor", file);
        expect(canonicalRepository("vendor", written)).toEqual(file);
        const expected = file.uris.flatMap((one) =>
          file.suites.flatMap((of) =>
            (file.components.length === 0 ? [""] : file.components).map(
              (part) => `${one.replace(/\/$/, "")} ${of === "/" ? "" : of} ${part} `,
            ),
          ),
        );
        expect(byApt(written)).toEqual([...new Set(expected)].sort());
        const { sources, problems } = parseDeb822Sources(written, "x", "amd64");
        expect(problems).toEqual([]);
        for (const source of sources)
          expect(source).toMatchObject({ trusted: false, allowInsecure: false, signedBy: ARMOR.trimEnd() });
      }),
      { numRuns: 600 },
    );
    expect(accepted).toBeGreaterThan(40);
  },
  60_000,
);

/** `site suite component trusted` of each package index; an error text where apt refuses or warns. */
function byApt(text: string): string[] {
  const parts = join(DIRECTORY, "parts");
  for (const at of [parts, join(DIRECTORY, "lists")]) {
    rmSync(at, { recursive: true, force: true });
    mkdirSync(at);
  }
  writeFileSync(join(parts, "vendor.sources"), text);
  const conf = join(DIRECTORY, "apt.conf");
  writeFileSync(
    conf,
    `Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null"; Dir::Etc::sourcelist "/dev/null";
     Dir::Etc::sourceparts "${parts}"; Dir::State::lists "${join(DIRECTORY, "lists")}";
     APT::Architecture "amd64"; APT::Architectures { "amd64"; }; Acquire::Languages "none";\n`,
  );
  const format = "$(SITE)\t$(RELEASE)\t$(COMPONENT)\t$(TRUSTED)";
  const { stdout, stderr, status } = spawnSync(
    "/usr/bin/apt-get",
    ["indextargets", "--no-release-info", "--format", format, "Created-By: Packages"],
    { env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", APT_CONFIG: conf }, encoding: "utf8" },
  );
  if (status !== 0 || stderr !== "") return [stderr];
  const lines = stdout.split("\n").filter((line) => line !== "");
  return [
    ...new Set(
      lines.map((line) => {
        const [site, of, part, trusted = ""] = line.split("\t");
        return `${site} ${of} ${part === "$(COMPONENT)" ? "" : part} ${trusted.startsWith("$") ? "" : trusted}`;
      }),
    ),
  ].sort();
}
