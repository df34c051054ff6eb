import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ROOT } from "./kit.ts";

/*
 * A minimal Debian or Ubuntu with systemd, made once by debootstrap and kept in the checkout, and the two programs that make
 * and boot it. Not every machine has them, and nothing is installed: their packages are unpacked into the checkout's cache.
 */

export type Suite = "bookworm" | "trixie" | "jammy" | "noble" | "resolute";
export const SUITES: readonly Suite[] = ["bookworm", "trixie", "jammy", "noble", "resolute"];
/** Ubuntu's, which have another archive and other keys. */
const UBUNTU: readonly Suite[] = ["jammy", "noble", "resolute"];

/** Where roots are kept. */
export const CACHE = join(ROOT, "node_modules/.cache/systemd");
const TOOLS = join(CACHE, "tools");
const KEYS = join(CACHE, "keys");
const PROGRAMS = ["debootstrap", "systemd-nspawn"] as const;
/** No D-Bus and no polkit: Aegis has to do without. What verifies signatures is what apt depends on: gpgv, or sqv alone. */
const PACKAGES = ["systemd", "systemd-sysv", "ca-certificates"];
/** Suites with sqv instead of gpgv. Roots made before that change have the plain suite name. */
const WITH_SQV: readonly string[] = ["trixie"];
/** The only program for verifying signatures there. */
export const verifierOf = (suite: Suite) => (WITH_SQV.includes(suite) ? "sqv" : "gpgv");
/** In /usr/share/keyrings. */
export const archiveKeys = (suite: Suite) => `${distribution(suite)}-archive-keyring.gpg`;
export const isUbuntu = (suite: Suite) => UBUNTU.includes(suite);
const distribution = (suite: Suite) => (isUbuntu(suite) ? "ubuntu" : "debian");
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Enough for 100 MB over a slow link. */
const LIMIT_MS = 900_000;

/** The environment in which the programs are found and run. */
export function toolEnvironment(): Record<string, string> {
  const plain = { LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive", PATH };
  if (!existsSync(TOOLS)) return plain;
  const at = (path: string) => join(TOOLS, path);
  const libraries = readdirSync(at("usr/lib")).filter((name) => name.endsWith("-linux-gnu"));
  return {
    ...plain,
    PATH: `${at("usr/sbin")}:${at("usr/bin")}:${PATH}`,
    DEBOOTSTRAP_DIR: at("usr/share/debootstrap"),
    LD_LIBRARY_PATH: libraries
      .flatMap((name) => [`usr/lib/${name}/systemd`, `usr/lib/${name}`, `lib/${name}`])
      .map(at)
      .join(":"),
  };
}

/** Where a program is, or null. */
export function tool(name: (typeof PROGRAMS)[number]): string | null {
  return Bun.which(name, { PATH: toolEnvironment()["PATH"] ?? PATH });
}

/**
 * The directory of a suite's root, read-only by agreement. Made on first use, which needs the network and takes a minute.
 * @throws Error with the words of what failed
 */
export function suiteRoot(suite: Suite): string {
  const directory = join(CACHE, verifierOf(suite) === "sqv" ? `${suite}-sqv` : suite);
  if (existsSync(directory)) return directory;
  mkdirSync(CACHE, { recursive: true });
  const lists = join(CACHE, "lists");
  try {
    const apt = machineApt(lists);
    if (PROGRAMS.some((name) => tool(name) === null)) unpackTools(apt);
    bootstrap(suite, directory, apt);
  } finally {
    rmSync(lists, { recursive: true, force: true });
  }
  return directory;
}

/** Whether apt can reach the suite's archive from here. */
export function archiveReachable(suite: Suite): boolean {
  const directory = mkdtempSync(join(tmpdir(), "aegis-archive-"));
  const words = ["download-file", `${mirror(suite)}/dists/${suite}/InRelease`, join(directory, "InRelease")];
  const { status } = spawnSync("/usr/lib/apt/apt-helper", words, { timeout: 20_000 });
  rmSync(directory, { recursive: true });
  return status === 0;
}

type Apt = (program: string, ...args: string[]) => SpawnSyncReturns<string>;

/** The machine's apt with separate lists and archives, so that the machine is not changed. */
function machineApt(lists: string): Apt {
  mkdirSync(join(lists, "partial"), { recursive: true });
  mkdirSync(join(lists, "archives/partial"), { recursive: true });
  const apart = [
    `Dir::State::lists=${lists}`,
    `Dir::Cache::archives=${lists}/archives`,
    "Dir::Cache::pkgcache=",
    "Dir::Cache::srcpkgcache=",
    "Debug::NoLocking=true",
    "APT::Sandbox::User=root",
    // No hooks after an update or a download.
    "APT::Update::Post-Invoke::=",
  ].flatMap((option) => ["-o", option]);
  return (program, ...args) => run(program, [...apart, ...args]);
}

function unpackTools(apt: Apt): void {
  unpack(apt, ["debootstrap", "systemd-container", "debian-archive-keyring"], TOOLS);
  for (const name of PROGRAMS) if (tool(name) === null) throw new Error(`${name} can't be had here`);
}

/** Unpacks packages and their missing dependencies into a directory. */
function unpack(apt: Apt, packages: readonly string[], directory: string): void {
  apt("apt-get", "update", "--error-on=any");
  apt("apt-get", "install", "-y", "--no-install-recommends", "--reinstall", "--download-only", ...packages);
  const archives = join(CACHE, "lists/archives");
  const work = `${directory}.new`;
  mkdirSync(join(work, "usr/lib"), { recursive: true });
  for (const name of readdirSync(archives).filter((file) => file.endsWith(".deb"))) {
    run("dpkg-deb", ["-x", join(archives, name), work]);
  }
  rmSync(directory, { recursive: true, force: true });
  renameSync(work, directory);
}

/** The keys of a suite's archive: the machine's, or those that Debian packages. Those of Ubuntu are in Debian 13, not in 12. */
function keysOf(suite: Suite, apt: Apt): string | undefined {
  const places = ["/", TOOLS, KEYS].map((at) => join(at, "usr/share/keyrings", archiveKeys(suite)));
  if (!isUbuntu(suite) || places.some(existsSync)) return places.find(existsSync);
  const source = `${KEYS}.list`;
  const by = `[signed-by=${keysOf("trixie", apt) ?? ""}]`;
  // Not among the lists, where apt deletes other files.
  writeFileSync(source, `deb ${by} ${mirror("trixie")} trixie main\n`);
  const only = ["-o", `Dir::Etc::SourceList=${source}`, "-o", "Dir::Etc::SourceParts=/dev/null"];
  unpack((program, ...args) => apt(program, ...only, ...args), ["ubuntu-keyring"], KEYS);
  return places.find(existsSync);
}

/** A source of the distribution's own packages; those of Ubuntu in `universe` too. */
export function archiveSource(suite: Suite, { updates }: { updates: boolean }): string {
  const suites = updates ? `${suite} ${suite}-updates` : suite;
  const components = isUbuntu(suite) ? "main universe" : "main";
  return `Types: deb\nURIs: ${mirror(suite)}\nSuites: ${suites}\nComponents: ${components}\nSigned-By: /usr/share/keyrings/${archiveKeys(suite)}\n`;
}

/** The Debian mirror that this machine uses; deb.debian.org on other systems. */
export function mirror(suite: Suite): string {
  if (isUbuntu(suite)) return "http://archive.ubuntu.com/ubuntu";
  const { stdout } = run("apt-get", ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
  const known = stdout.split("\n").find((uri) => /\/debian\/?$/.test(uri));
  return (known ?? "http://deb.debian.org/debian").replace(/\/$/, "");
}

function bootstrap(suite: Suite, directory: string, apt: Apt): void {
  const work = `${directory}.new`;
  rmSync(work, { recursive: true, force: true });
  const keyring = keysOf(suite, apt);
  const proxy = /^p='(.*)'$/m.exec(apt("apt-config", "shell", "p", "Acquire::http::Proxy").stdout)?.[1];
  const scripts = join(toolEnvironment()["DEBOOTSTRAP_DIR"] ?? "/usr/share/debootstrap", "scripts");
  const words = [
    ...["--variant=minbase", `--include=${PACKAGES.join(",")}`],
    ...(keyring === undefined ? [] : [`--keyring=${keyring}`]),
    ...[suite, work, mirror(suite)],
    // One script serves all of Ubuntu, and Debian 12 has none under the name of the latest.
    ...(isUbuntu(suite) ? [join(scripts, "gutsy")] : []),
  ];
  // debootstrap's mounts end with its mount namespace.
  run("unshare", ["--mount", "--propagation", "private", tool("debootstrap") ?? "debootstrap", ...words], {
    ...(proxy === undefined ? {} : { http_proxy: proxy }),
  });
  for (const name of readdirSync(join(work, "var/cache/apt/archives"))) {
    if (name.endsWith(".deb")) rmSync(join(work, "var/cache/apt/archives", name));
  }
  rmSync(join(work, "etc/apt/sources.list"), { force: true });
  // The machine's proxy, and whether Release files' dates are checked.
  const dump = apt("apt-config", "dump").stdout.split("\n");
  const settings = dump.filter((line) => /^Acquire::(?:https?::|Check-|Retries)/i.test(line));
  writeFileSync(join(work, "etc/apt/apt.conf.d/99machine"), `${settings.join("\n")}\n`);
  mkdirSync(dirname(directory), { recursive: true });
  renameSync(work, directory);
}

/**
 * Runs a program to its end.
 * @throws Error with the last line of its output when it fails
 */
export function run(program: string, args: readonly string[], env: Record<string, string> = {}) {
  const result = spawnSync(program, args, {
    env: { ...toolEnvironment(), ...env },
    encoding: "utf8",
    timeout: LIMIT_MS,
    maxBuffer: 64 * 1024 * 1024,
  });
  if (result.status === 0) return result;
  const said = `${result.stdout ?? ""}${result.stderr ?? ""}`.trim().split("\n").at(-1);
  throw new Error(`${program} ${args.slice(-3).join(" ")}: ${result.error?.message ?? said}`);
}
