import fc from "fast-check";

/*
 * Sources as people write them, each with few oddities, so that apt doesn't refuse all of them.
 */

const KEY = "A".repeat(39);
/** Mostly the first word, so that a source has few oddities and apt doesn't refuse all of them. */
const mostly = (plain: string, ...odd: string[]) =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(plain) }, { weight: 1, arbitrary: fc.constantFrom(...odd) });
const uri = fc
  .tuple(
    mostly("http://", "https://", "file:", "cdrom:", "mirror+http://", "http:"),
    mostly("x", "u:p@x", "u@v@x", "[::1]", "[::1]:8080", "u@[::1]:80", "X:80", "x:080", "x:a", "[Disk]", ""),
    mostly(
      "/d",
      "",
      "/",
      "//",
      "/d/",
      "/d//",
      "/a+b~c/_d",
      "/$(ARCH)",
      "/a@b",
      "/[a]",
      "/a%20b",
      "/é",
      "/a=b&c",
      "/a:b",
    ),
  )
  .map((parts) => parts.join(""));
const suite = mostly(
  "s",
  "t-u",
  "s+t",
  "s~1",
  "./",
  "/",
  "a/b",
  "$(ARCH)",
  "$(ARCH)/",
  "d/",
  "c+/",
  "s_t",
  "é",
  ".",
  "s\u00a0t",
  "s%41",
  "[s]",
);
const component = mostly("main", "contrib", "a/b", "con+trib", "$(ARCH)", ".", "é", "ma\u00a0in", "a~b_c");
const signedBy = fc.constantFrom("/k.gpg", "/a.gpg,/b.gpg", `${KEY}b`, `${KEY}B!`, `/k.gpg,${KEY}B`);
const option = fc.oneof(
  fc.constantFrom(
    "arch=amd64",
    "arch=amd64,i386",
    "arch+=i386",
    "arch-=i386",
    "lang=en",
    "by-hash=no",
    "x=y",
  ),
  fc
    .tuple(mostly("signed-by", "Signed-By", "SIGNED-BY", "signed-by+", "signed-by-"), signedBy)
    .map((parts) => parts.join("=")),
  fc
    .tuple(mostly("trusted", "Trusted", "trusted+"), fc.constantFrom("yes", "no", "1", "0x0", "on", "00"))
    .map((parts) => parts.join("=")),
);
const blank = mostly(" ", "\t", "  ", "\u00a0", " \t ");
const end = mostly("", " ", "\r", " # c", "#c", "\u00a0", "\v");

export const line = fc
  .tuple(
    fc.constantFrom("deb", "deb", "deb", "deb-src"),
    fc.array(option, { maxLength: 2 }),
    uri,
    suite,
    fc.array(component, { minLength: 1, maxLength: 2 }),
    fc.array(blank, { minLength: 6, maxLength: 6 }),
    end,
    fc.constantFrom("[%]", "[ % ]", "[% ]"),
  )
  .map(([type, options, at, of, components, blanks, last, brackets]) => {
    const all = of.endsWith("/") ? [] : components;
    const between = options.length === 0 ? [] : [brackets.replace("%", options.join(" "))];
    return `${[type, ...between, at, of, ...all].map((word, n) => (n === 0 ? word : `${blanks[n]}${word}`)).join("")}${last}`;
  });

const words = (word: fc.Arbitrary<string>) =>
  fc
    .array(fc.tuple(word, fc.constantFrom(" ", " ", "\n ", "\n\t", "\t", "\n .\n ", "\u00a0", "\n# c\n ")), {
      minLength: 1,
      maxLength: 2,
    })
    .map((parts) => parts.map(([text, gap], n) => (n === 0 ? text : `${gap}${text}`)).join(""));
export const ARMOR =
  "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME\n  =abc\n -----END PGP PUBLIC KEY BLOCK-----";
const more = fc.oneof(
  fc.tuple(
    fc.constantFrom("Signed-By", "signed-by", "Signed-By-Add"),
    fc.oneof(signedBy, fc.constant(ARMOR), fc.constant("/a.gpg\n /b.gpg")),
  ),
  fc.tuple(fc.constantFrom("Trusted", "TRUSTED"), fc.constantFrom("yes", "no", "1", "\n yes", "0x1", "")),
  fc.tuple(fc.constant("Enabled"), fc.constantFrom("yes", "no", "0", "00", "", "maybe", "\n no", "\n\tno")),
  fc.tuple(
    fc.constantFrom("Architectures", "Architectures-Add", "X-Note"),
    fc.constantFrom("amd64", "amd64 i386"),
  ),
);
export const stanza = fc
  .tuple(
    fc.constantFrom("deb", "deb", "deb deb-src", "deb-src"),
    words(uri),
    words(suite),
    fc.option(words(component)),
    fc.array(more, { maxLength: 2 }),
    fc.constantFrom(": ", ":", ":\t", ":\n "),
  )
  .map(([types, uris, suites, components, extra, colon]) =>
    [
      ["Types", types],
      ["URIs", uris],
      ["Suites", suites],
      ...(components === null || suites.endsWith("/") ? [] : [["Components", components]]),
      ...extra,
    ]
      .map(([name, value]) => `${name}${colon}${value}\n`)
      .join(""),
  );
export const separator = fc.constantFrom("\n", "\n\n", "\n# c\n\n", "# c\n\n", " \n", "");
