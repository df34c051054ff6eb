import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./kit.ts";

/*
 * Emulators (qemu user mode) for executables of other machines: from Debian's packages, unpacked into the
 * checkout's cache. Nothing is installed, and nothing is registered with the kernel.
 */

const CACHE = join(ROOT, "node_modules/.cache/foreign-machine");

export interface Emulators {
  /** The words before an arm64 executable. */
  arm64: string[];
  /** The words before an x86-64 executable, on a processor of this model. */
  x64(model: string): string[];
}

/** The emulators, fetched once; or why there are none. */
export function emulators(): Emulators | string {
  if (process.arch !== "x64") return "this is no x86-64 machine";
  try {
    if (!existsSync(CACHE)) fetchInto(`${CACHE}.${process.pid}`);
  } catch (error) {
    rmSync(`${CACHE}.${process.pid}`, { recursive: true, force: true });
    return String(error);
  }
  const emulator = (name: string) => {
    const paths = [`${name}-static`, name].map((file) => join(CACHE, "usr/bin", file));
    return paths.find((path) => lstatSync(path, { throwIfNoEntry: false })?.isFile() === true) ?? "";
  };
  return {
    arm64: [emulator("qemu-aarch64"), "-L", CACHE],
    x64: (model) => [emulator("qemu-x86_64"), "-cpu", model],
  };
}

/** Downloaded by apt with separate package lists for both architectures, from this host's sources. */
function fetchInto(directory: string): void {
  for (const path of ["lists/partial", "cache/archives/partial"])
    mkdirSync(join(directory, path), { recursive: true });
  writeFileSync(join(directory, "status"), "");
  const options = Object.entries({
    "Dir::State": directory,
    "Dir::State::status": join(directory, "status"),
    "Dir::Cache": join(directory, "cache"),
    "APT::Architectures": "amd64,arm64",
    "APT::Sandbox::User": "",
  }).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  must("/usr/bin/apt-get", [...options, "-qq", "update"], directory);
  // Where the emulators are static under another name, Debian's qemu-user-static is only links.
  must(
    "/usr/bin/apt-get",
    [...options, "-qq", "download", "libc6:arm64", "qemu-user-static:amd64"],
    directory,
  );
  spawnSync("/usr/bin/apt-get", [...options, "-qq", "download", "qemu-user:amd64"], { cwd: directory });
  const fetched = readdirSync(directory).filter((name) => name.endsWith(".deb"));
  for (const deb of fetched) must("/usr/bin/dpkg-deb", ["-x", deb, "."], directory);
  for (const name of [...fetched, "lists", "cache"]) rmSync(join(directory, name), { recursive: true });
  renameSync(directory, CACHE);
}

function must(program: string, args: readonly string[], cwd: string): void {
  const { status, stderr, error } = spawnSync(program, args, { cwd, encoding: "utf8", timeout: 180_000 });
  if (status !== 0) throw new Error(`${program} ${args.at(-1)}: ${error?.message ?? stderr.trim()}`);
}
