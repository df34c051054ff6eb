import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import fc from "fast-check";
import {
  bytes,
  clip,
  clipColumns,
  columnsOf,
  GUTTER,
  jsonLine,
  paint,
  pieces,
  plural,
  roomFor,
  safe,
  safeLines,
  showArgv,
  showSomeArgv,
  table,
  terminalOf,
  wrap,
} from "../src/terminal.ts";

const PLAIN = { interactive: false, colour: false, width: 80 };

describe("jsonLine", () => {
  test("control characters are escaped, and the value is the same", () => {
    const text = "a\u009b31m\u202e\u2028\u{e0041}\u0007\n\u007f Grüße 😂";
    const line = jsonLine({ text });
    expect(line).toBe('{"text":"a\\u009b31m\\u202e\\u2028\\udb40\\udc41\\u0007\\n\\u007f Grüße 😂"}');
    expect(JSON.parse(line)).toEqual({ text });
  });

  test("property: the parsed value never changes", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "binary" }), (value) => {
        const line = jsonLine(value);
        expect(line).toBe(safe(line));
        expect(JSON.parse(line)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });
});

describe("safe", () => {
  const CASES: [name: string, text: string, shown: string][] = [
    ["a terminal sequence", "\u001b[31mred", "\\x1b[31mred"],
    ["a window title", "\u001b]0;x\u0007", "\\x1b]0;x\\x07"],
    ["the one-byte CSI", "\u009b31m", "\\x9b31m"],
    ["line feed, return, tab", "a\nb\rc\td", "a\\nb\\rc\\td"],
    ["NUL and DEL", "\0\u007f", "\\x00\\x7f"],
    ["bidirectional overrides", "\u202eabc\u202c", "\\u{202e}abc\\u{202c}"],
    ["bidirectional isolates", "\u2066a\u2069", "\\u{2066}a\\u{2069}"],
    [
      "every space but the ordinary one",
      "a\u00a0b\u1680c\u2003d\u202fe\u205ff\u3000g h",
      "a\\xa0b\\u{1680}c\\u{2003}d\\u{202f}e\\u{205f}f\\u{3000}g h",
    ],
    ["invisible look-alikes of a space", "a\u2800b\u3164c\uffa0d", "a\\u{2800}b\\u{3164}c\\u{ffa0}d"],
    ["stacked marks", "e\u0301\u0301\u0301\u0301x", "e\u0301\u0301\\u{301}\\u{301}x"],
    ["zero width", "a\u200bb\u200dc\ufeffd\u2060e", "a\\u{200b}b\\u{200d}c\\u{feff}d\\u{2060}e"],
    ["soft hyphen", "a\u00adb", "a\\xadb"],
    ["line and paragraph separators", "a\u2028b\u2029c", "a\\u{2028}b\\u{2029}c"],
    ["private use, beyond the basic plane", "\ue000\u{f0000}", "\\u{e000}\\u{f0000}"],
    ["tag characters", "\u{e0041}", "\\u{e0041}"],
    ["unassigned", "\u0378", "\\u{378}"],
    ["a lone surrogate", "a\ud83d", "a\ufffd"],
    ["ordinary text", "Grüße, 世界 😂 nginx=1.22~rc1+deb12", "Grüße, 世界 😂 nginx=1.22~rc1+deb12"],
  ];
  for (const [name, text, shown] of CASES) test(name, () => expect(safe(text)).toBe(shown));

  test("property: nothing in C, Zl or Zp remains, and safe text is unchanged", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(safe(text)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
        expect(safe(safe(text))).toBe(safe(text));
        expect(safeLines(text).replaceAll(/[\n\t]/g, "")).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
      }),
    );
  });
  test("safeLines keeps only line feeds and tabs", () =>
    expect(safeLines("a\tb\r\n\u001b[2J\n")).toBe("a\tb\\r\n\\x1b[2J\n"));
});

describe("showArgv", () => {
  const CASES: [argv: string[], shown: string][] = [
    [
      ["apt-get", "install", "-y", "nginx=1.22~rc1", "a:amd64=1+b2"],
      "apt-get install -y nginx=1.22~rc1 a:amd64=1+b2",
    ],
    [[""], "''"],
    [["a b", "$(id)", "`id`", "*", "a;b"], "'a b' '$(id)' '`id`' '*' 'a;b'"],
    [["it's"], "'it'\\''s'"],
    [["~root", "a=~root", "a:~root", "a~b"], "'~root' 'a=~root' 'a:~root' a~b"],
    [["{a,b}", "a,b", "#x", "!!"], "'{a,b}' a,b '#x' '!!'"],
    [["\u001b[31m", "\u202e"], "$'\\x1b[31m' $'\\u202e'"],
    [["a\n'\\n"], "$'a\\x0a\\'\\\\n'"],
  ];
  for (const [argv, shown] of CASES) test(shown, () => expect(showArgv(argv)).toBe(shown));

  test("property: a shell reads words back unchanged", () => {
    const word = fc.string({
      unit: fc.constantFrom(..."ab1 ~$'\"\\*?[]{}();&|<>!#=:,%-.`/é\u001b\n\t\u0085\u202e\u{e0041}"),
    });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 20 }), (argv) => {
        const { stdout } = spawnSync("bash", ["-c", `printf '%s\\n' ${showArgv(argv)}`], {
          encoding: "utf8",
          env: { LC_ALL: "C.UTF-8" },
        });
        expect(stdout).toBe(argv.map((one) => `${one}\n`).join(""));
      }),
    );
  });
});

describe("terminalOf", () => {
  const CASES: [
    stream: { isTTY?: boolean; columns?: number },
    env: Record<string, string>,
    expected: object,
  ][] = [
    [{}, { TERM: "xterm" }, { interactive: false, colour: false, width: 80 }],
    [{ isTTY: false, columns: 200 }, { TERM: "xterm" }, { interactive: false, colour: false, width: 200 }],
    [{ isTTY: true }, { TERM: "xterm", NO_COLOR: "1" }, { interactive: true, colour: false }],
    [{ isTTY: true }, { TERM: "xterm", NO_COLOR: "0" }, { colour: false }],
    [{ isTTY: true }, { TERM: "dumb" }, { colour: false }],
    [{ isTTY: true }, { TERM: "" }, { colour: false }],
    [{ isTTY: true }, { TERM: "xterm", NO_COLOR: "" }, { colour: true }],
    [{ isTTY: true, columns: 100 }, { TERM: "xterm" }, { interactive: true, colour: true, width: 100 }],
    [{ isTTY: true, columns: 10 }, {}, { width: 40 }],
  ];
  for (const [stream, env, expected] of CASES)
    test(JSON.stringify([stream, env]), () => expect(terminalOf(stream, env)).toMatchObject(expected));
  test("paint", () => {
    expect(paint(PLAIN, "red", "x")).toBe("x");
    expect(paint({ ...PLAIN, colour: true }, "red", "x")).toBe("\u001b[31mx\u001b[0m");
  });
});

describe("table", () => {
  test("aligned columns, safe cells, no trailing spaces", () => {
    const rows = [
      ["a", "\u001b[31m"],
      ["longer", ""],
    ];
    expect(table(PLAIN, ["name", "x"], rows)).toBe("name    x\na       \\x1b[31m\nlonger");
  });
  test("no wider than the terminal: the widest column shrinks", () => {
    const text = table({ ...PLAIN, width: 40 }, ["name", "origin"], [["nginx", "o".repeat(100)]]);
    expect(text.split("\n")[1]).toBe(`nginx  ${"o".repeat(32)}…`);
    for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(40);
  });
  test("no rows", () => expect(table(PLAIN, ["a", "b"], [])).toBe("a  b"));
});

test("wrap breaks at spaces and long words anywhere, and indents every line but the first", () => {
  expect(wrap("one two three", 9, "  ")).toEqual(["one two", "  three"]);
  expect(wrap(`a ${"b".repeat(20)} c`, 10, "  ")).toEqual(["a", "  bbbbbbbb", "  bbbbbbbb", "  bbbb c"]);
  expect(wrap(`a ${"b".repeat(20)} c`, 9, "  ", true)).toEqual(["a", `  ${"b".repeat(20)}`, "  c"]);
  expect(wrap("", 9, "  ")).toEqual([""]);
});

test("property: no wrapped line is wider than the terminal, even if every non-ASCII character is wide", () => {
  const text = fc.array(fc.string({ unit: "grapheme", maxLength: 40 })).map((words) => safe(words.join(" ")));
  fc.assert(
    fc.property(text, fc.integer({ min: 20, max: 120 }), (one, width) => {
      const lines = wrap(one, width, GUTTER);
      for (const [i, line] of lines.entries()) {
        expect(roomFor(line)).toBeLessThanOrEqual(width);
        if (i > 0) expect(line).toStartWith(GUTTER);
      }
      const words = lines.map((line, i) => (i === 0 ? line : line.slice(GUTTER.length))).join("");
      expect(words.replaceAll(" ", "")).toBe(one.replaceAll(" ", ""));
    }),
  );
});

test("columns: wide characters count two, combining ones none", () => {
  expect(["nginx", "世界", "e\u0301", "Grüße", "−", ""].map(columnsOf)).toEqual([5, 4, 1, 5, 1, 0]);
  const rows = [
    ["世界", "1"],
    ["nginx", "2"],
  ];
  expect(table(PLAIN, ["name", "n"], rows)).toBe("name   n\n世界   1\nnginx  2");
  expect(pieces("世界ab", 4)).toEqual(["世界", "ab"]);
  expect(pieces("世界ab", 1)).toEqual(["世", "界", "a", "b"]);
  expect(clipColumns("世界abc", 6)).toBe("世界a…");
});

test("an argv of many words: a few lines and the number left out", () => {
  const argv = [
    "apt-get",
    "install",
    "-y",
    ...Array.from({ length: 150 }, (_, i) => `package-${i}=1.0-${i}`),
  ];
  const shown = showSomeArgv(argv, 69);
  expect(wrap(shown, 69, "").length).toBeLessThanOrEqual(5);
  expect(shown).toMatch(/^apt-get install -y package-0=1\.0-0 .* … and \d+ more words \(--json has all\)$/);
  expect(showSomeArgv(argv.slice(0, 4), 69)).toBe("apt-get install -y package-0=1.0-0");
  expect(roomFor(showSomeArgv(["x".repeat(4000), "y"], 69))).toBeLessThan(69 * 4);
});

test("clip never splits a character", () => {
  const CASES: [text: string, width: number, shown: string][] = [
    ["abc", 3, "abc"],
    ["abcd", 3, "ab…"],
    ["abc", 0, "…"],
    ["a😂b😂c", 3, "a…"],
  ];
  for (const [text, width, shown] of CASES) {
    expect(clip(text, width)).toBe(shown);
    expect(clip(text, width).isWellFormed()).toBe(true);
  }
});

test("numbers for people", () => {
  expect([plural(0, "package"), plural(1, "package"), plural(2, "entry", "entries")]).toEqual([
    "0 packages",
    "1 package",
    "2 entries",
  ]);
  expect([0, 999, 1000, 1_234_567, 5e12, 7e15].map(bytes)).toEqual([
    "0 B",
    "999 B",
    "1.0 kB",
    "1.2 MB",
    "5.0 TB",
    "7000.0 TB",
  ]);
});
