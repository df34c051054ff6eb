import { describe, expect, test } from "bun:test";
import { isAllowedArgv } from "../src/eco-argv.ts";
import { assertPlanningArgv } from "../src/eco-planning-argv.ts";

const NPM = ["npm", "install", "--global", "--prefix", "/var/lib/aegis/npm-global"];
const QUIET = ["--ignore-scripts", "--no-audit", "--no-fund"];
const npm = (...targets: string[]) => [...NPM, ...QUIET, ...targets];
const apt = (...targets: string[]) => ["apt-get", "install", "-y", ...targets];

const RUN = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";
const rollback = (...words: string[]) => ["aegis", "rollback", ...words];

const DIGEST = `sha256:${"a".repeat(64)}`;
const repository = (...words: string[]) => ["aegis", "repository", ...words];

const REFUSED: string[][] = [
  repository(),
  repository("add"),
  repository("add", "vendor"),
  repository("add", "vendor", DIGEST, DIGEST),
  repository("add", "vendor", DIGEST.slice(7)),
  repository("add", "vendor", DIGEST.slice(0, -1)),
  repository("add", "vendor", DIGEST.toUpperCase()),
  repository("add", "../vendor", DIGEST),
  repository("add", "vendor.sources", DIGEST),
  repository("add", ".vendor", DIGEST),
  repository("add", "-vendor", DIGEST),
  repository("add", "Vendor", DIGEST),
  repository("add", "vendor\n", DIGEST),
  repository("add", "v".repeat(64), DIGEST),
  repository("replace", "vendor", DIGEST),
  repository("remove", "vendor"),
  repository("remove", "/etc/passwd", DIGEST),
  repository("edit", "vendor", DIGEST),
  ["aegis", "daemon", "--repository", "/tmp"],
  ["aegis"],
  rollback("npm", "/var/lib/aegis/npm-global"),
  rollback("npm", "/var/lib/aegis/npm-global", "latest"),
  rollback("npm", "/var/lib/aegis/npm-global", RUN.slice(0, 8)),
  rollback("npm", "/var/lib/aegis/npm-global", RUN.toUpperCase()),
  rollback("npm", "/var/lib/aegis/npm-global", RUN, RUN),
  rollback("npm", "/var/lib/aegis/npm-global", `../${RUN}`),
  rollback("npm", "/var/lib/aegis/cargo", RUN),
  rollback("npm", "/etc", RUN),
  rollback("container", "/var/lib/docker", RUN),
  rollback("apt", "/var/lib/aegis/npm-global", RUN),
  ["aegis", "daemon", "--build", "/tmp"],
  [],
  ["sh", "-c", "true"],
  ["apt-get"],
  ["apt-get", "update", "-o", "x=y"],
  apt(),
  apt("hello"),
  apt("hello=1.0", "-o", "x=y"),
  apt("hello=1.0", "--allow-downgrades"),
  // apt takes what ends in a hyphen for a removal.
  apt("hello=1.0-"),
  apt("hello-=1.0"),
  apt("--allow-downgrades", "hello=1.0-"),
  apt("--allow-downgrades"),
  apt("--allow-downgrades", "hello"),
  apt("--allow-downgrades", "hello=1.0", "--allow-remove-essential"),
  apt("--allow-remove-essential", "hello=1.0"),
  ["apt-get", "remove", "-y"],
  ["apt-get", "remove", "hello"],
  ["apt-get", "remove", "-y", "hello=1.0"],
  ["apt-get", "remove", "-y", "hello-"],
  ["apt-get", "remove", "-y", "hello:amd64-"],
  ["apt-get", "remove", "-y", "--purge", "hello"],
  ["apt-get", "remove", "-y", "--auto-remove", "hello"],
  ["apt-get", "remove", "-y", "hello", "-o", "x=y"],
  ["apt-get", "remove", "-y", "hello", "?installed"],
  ["dpkg", "--configure"],
  ["dpkg", "--configure", "-a", "--force-all"],
  ["dpkg", "--force-confnew", "--configure", "-a"],
  ["dpkg", "--configure", "hello"],
  ["dpkg", "-i", "x.deb"],
  npm(),
  npm("lodash"),
  npm("lodash@latest@1.0.0"),
  npm("lodash@4.17.21", "lodash"),
  npm("lodash@4.17.21", "--ignore-scripts=false"),
  npm("lodash@4.17.21", "https://example.com/x.tgz"),
  npm("lodash@4.17.21", "../x@1.0.0"),
  npm("lodash@4.17.21", ""),
  [...NPM, "--no-audit", "--no-fund", "lodash@4.17.21"],
  ["npm", "install", "--global", "--prefix", "/usr", ...QUIET, "lodash@4.17.21"],
];
/** The list of planning has these; the executor's has not. */
const PLANNING_ONLY: string[][] = [
  ["apt-get", "-s", "upgrade"],
  ["apt-config", "dump"],
  ["npm", "view", "lodash", "--json"],
  ["npm", "--version"],
];
const TOO_LONG: string[][] = [
  apt(`hello=${"1".repeat(1020)}`),
  ["docker", "pull", "a".repeat(1025)],
  apt(...Array<string>(4001).fill("hello=1.0")),
];
const ALLOWED: string[][] = [
  repository("add", "vendor", DIGEST),
  repository("replace", "vendor-2_x", DIGEST, DIGEST),
  repository("remove", "v", DIGEST),
  ["apt-get", "update"],
  ["apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  apt("hello=2.10-3"),
  apt("hello=2.10-3", "libc6:i386=2.36-9+deb12u10"),
  apt("--allow-downgrades", "hello=2.10-2", "libc6:i386=2.36-9"),
  ["apt-get", "remove", "-y", "hello"],
  ["apt-get", "remove", "-y", "g++", "libc6:i386"],
  ["dpkg", "--configure", "-a"],
  npm("lodash@4.17.21"),
  npm("lodash@4.17.21", "@babel/core@7.0.0-beta.1"),
  rollback("npm", "/var/lib/aegis/npm-global", RUN),
  rollback("pip", "/var/lib/aegis/pip-packages", RUN),
  rollback("go", "/var/lib/aegis/go", RUN),
  rollback("cargo", "/var/lib/aegis/cargo", RUN),
  rollback("container", "/var/lib/aegis/podman", RUN),
];

describe("commands that the executor may run", () => {
  for (const argv of REFUSED) test(`not: ${argv.join(" ")}`, () => expect(isAllowedArgv(argv)).toBe(false));
  for (const argv of PLANNING_ONLY) {
    test(`not, though planning may: ${argv.join(" ")}`, () => {
      expect(() => assertPlanningArgv(argv)).not.toThrow();
      expect(isAllowedArgv(argv)).toBe(false);
    });
  }
  for (const argv of TOO_LONG) {
    test(`not: ${argv.length} words, the longest of ${Math.max(...argv.map((word) => word.length))}`, () => {
      expect(isAllowedArgv(argv)).toBe(false);
    });
  }
  for (const argv of ALLOWED) test(argv.join(" "), () => expect(isAllowedArgv(argv)).toBe(true));
});
