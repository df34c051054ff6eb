import { chmodSync, lchownSync, lstatSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { Difference } from "../src/doc-result.ts";
import type { BuildPlaces, BuildSettings, ManagedTool, Route } from "../src/eco-managed.ts";

/*
 * A tool for the tests of managed roots. Its packages are single files: the package `name` must be the file `name` with the signed
 * bytes, and nothing else may be there. Its command line is a shell script, which may do what it likes.
 */

export const fakeManaged: ManagedTool = {
  tool: "vscode",
  root: "fake",
  routes: (files) =>
    Promise.resolve(
      new Map<string, Route>(
        files.flatMap(({ name, path }): [string, Route][] => [
          [`/${name}`, { file: path, type: "application/octet-stream" }],
          [`/asks?of=(Id) eq '${name}'`, { body: "asked\n", type: "text/plain" }],
        ]),
      ),
    ),
  settings: ({ registry }: BuildPlaces): BuildSettings => ({
    variables: { FAKE_REGISTRY: registry },
    files: { ".config/fake": "settings\n" },
  }),
  check({ files, before, stage }) {
    const expected = new Map(files.map(({ name, sha256 }) => [name, sha256]));
    for (const [path, entry] of before) {
      if (entry.kind === "file" && !expected.has(path)) expected.set(path, entry.sha256);
    }
    const paths = new Set([...expected.keys(), ...stage.keys()]);
    return Promise.resolve(
      [...paths].flatMap((path): Difference[] => {
        const entry = stage.get(path);
        const found = entry?.kind === "file" ? entry.sha256 : (entry?.kind ?? null);
        const want = expected.get(path) ?? null;
        return found === want ? [] : [{ package: path, architecture: "all", expected: want, found }];
      }),
    );
  },
  inventory: (tree) => Object.fromEntries([...tree.keys()].map((path) => [path, "1.0.0"])),
  executables: (tree) =>
    Object.fromEntries(
      [...tree].flatMap(([path, entry]) => (entry.kind === "file" && entry.executable ? [[path, path]] : [])),
    ),
};

/**
 * The same with a store: what the script makes, as root of a user namespace, is taken as it is but for its owner. Directories in `whole`
 * are taken whole, and what is called `passing` passes.
 */
export const fakeStore: ManagedTool = {
  ...fakeManaged,
  tool: "container",
  root: "fake",
  store: {
    isWhole: (path) => /^whole\/[^/]+$/.test(path),
    isPassing: (path) => path === "passing",
    ready() {},
    settle({ left, stage, firstUser }) {
      const others: Difference[] = [];
      renameSync(left, stage);
      for (const path of ["", ...readdirSync(stage, { recursive: true, encoding: "utf8" })]) {
        const at = join(stage, path);
        const stat = lstatSync(at);
        if (stat.uid !== firstUser && stat.uid !== 0)
          others.push({ package: path, architecture: "all", expected: null, found: `${stat.uid}` });
        lchownSync(at, 0, 0);
        // The owner's change takes special bits away.
        if (stat.isFile()) chmodSync(at, stat.mode & 0o7777);
      }
      return Promise.resolve(others);
    },
  },
  keeps: ({ before, stage }) => [...before.keys()].filter((path) => !stage.has(path)),
  check: () => Promise.resolve([]),
};
