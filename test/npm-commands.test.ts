import { expect, test } from "bun:test";
import { mendedCommand, packageCommands } from "../src/npm-commands.ts";

const FILES = ["cli.js", "bin/one", "bin/deep/two", "other/three"];
const contents = new Map(
  FILES.map((path) => [path, { path, executable: false, data: Buffer.from(path) }] as const),
);

const CASES: [what: string, manifest: Record<string, unknown>, commands: Record<string, string>][] = [
  ["none", { name: "a" }, {}],
  ["one, called like the package", { name: "a", bin: "cli.js" }, { a: "cli.js" }],
  ["one, called like a scoped package", { name: "@s/a", bin: "./cli.js" }, { a: "cli.js" }],
  ["a list", { name: "a", bin: ["bin/one"] }, { one: "bin/one" }],
  ["names", { bin: { x: "cli.js", y: "/bin/one" } }, { x: "cli.js", y: "bin/one" }],
  [
    "a name that is a path",
    { bin: { "../../x": "cli.js", "c:\\y": "cli.js" } },
    { x: "cli.js", y: "cli.js" },
  ],
  ["a file that climbs", { bin: { x: "../../cli.js" } }, { x: "cli.js" }],
  ["a file that isn't there", { bin: { x: "none.js", y: 1 } }, {}],
  ["a directory", { directories: { bin: "./bin" } }, { one: "bin/one", two: "bin/deep/two" }],
  ["a directory beside names", { bin: {}, directories: { bin: "bin" } }, {}],
  ["nonsense", { bin: 1, directories: { bin: {} } }, {}],
];
test.each(CASES)("commands: %s", (_, manifest, commands) => {
  expect(Object.fromEntries(packageCommands(manifest, contents))).toEqual(commands);
});

test("a carriage return behind #! goes, and no other", () => {
  const mend = (text: string) => Buffer.from(mendedCommand(Buffer.from(text))).toString();
  expect(mend("#!/usr/bin/env node\r\nx\r\n")).toBe("#!/usr/bin/env node\nx\r\n");
  expect(mend("x\r\n")).toBe("x\r\n");
});
