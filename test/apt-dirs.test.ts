import { expect, test } from "bun:test";
import { aptDirs, DEFAULT_APT_DIRS } from "../src/apt-dirs.ts";
import { fixture } from "./apt-kit.ts";

test("an ordinary host has apt's defaults", () => {
  expect(aptDirs(fixture("bookworm/config-dump.txt"))).toEqual(DEFAULT_APT_DIRS);
});

test("nothing known: apt's defaults", () => {
  expect(aptDirs("")).toEqual(DEFAULT_APT_DIRS);
});

test("absolute values stand alone, relative ones hang below their parents", () => {
  const dump = [
    'Dir "/srv/root";',
    'Dir::Etc "etc/apt";',
    'Dir::Etc::sourcelist "/tmp/one.list";',
    'Dir::Etc::sourceparts "parts.d/";',
    'Dir::State "/var/lib/apt";',
    'Dir::State::lists "lists/";',
    'Dir::State::status "/tmp/status";',
  ].join("\n");
  expect(aptDirs(dump)).toMatchObject({
    sourceList: "/tmp/one.list",
    sourceParts: "/srv/root/etc/apt/parts.d",
    lists: "/var/lib/apt/lists",
    status: "/tmp/status",
    trusted: "/etc/apt/trusted.gpg",
  });
});
