import { afterAll, beforeEach, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isWrapperName } from "../src/eco-names.ts";
import { installWrappers, removeWrappers, wrapperFiles, wrappersLeftOut } from "../src/host-wrappers.ts";
import { SYSTEM } from "../src/paths.ts";
import { resolveProgram } from "../src/sys-spawn.ts";

const root = mkdtempSync(join(tmpdir(), "aegis-wrappers-"));
afterAll(() => rmSync(root, { recursive: true }));
let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(root, "bin-"));
});
const at = (name: string) => join(directory, name);
const ours = () => wrapperFiles(directory).filter((path) => path.startsWith(directory));

test("an administrator's own files are reported, and neither replaced nor removed", async () => {
  await Bun.write(at("apt-get"), "mine");
  symlinkSync("/opt/aegis", at("apt"));
  symlinkSync("/nowhere", at("docker"));
  installWrappers(directory);
  expect(wrappersLeftOut(directory).map((line) => line.split(" has no wrapper: ")[0])).toEqual(
    expect.arrayContaining(["apt", "apt-get", "docker"]),
  );
  removeWrappers(directory);
  expect(await Bun.file(at("apt-get")).text()).toBe("mine");
  expect(readlinkSync(at("apt"))).toBe("/opt/aegis");
  expect(readlinkSync(at("docker"))).toBe("/nowhere");
});

test("each package manager on this host gets a link to the installed program, and no other does", () => {
  installWrappers(directory);
  installWrappers(directory);
  const made = readdirSync(directory);
  expect(made).toEqual(expect.arrayContaining(["apt", "apt-get"]));
  for (const name of made) {
    expect(isWrapperName(name)).toBe(true);
    expect(readlinkSync(at(name))).toBe(SYSTEM.binary);
    expect(existsSync(resolveProgram(name) ?? "")).toBe(true);
  }
  expect(ours().toSorted()).toEqual(made.map(at).toSorted());
  removeWrappers(directory);
  expect(readdirSync(directory)).toEqual([]);
  expect(lstatSync(directory).isDirectory()).toBe(true);
});

test("dpkg has no wrapper: every maintainer script calls it", () => {
  for (const name of ["dpkg", "aegis", "apt-cache", "constructor", ""])
    expect(isWrapperName(name)).toBe(false);
});
