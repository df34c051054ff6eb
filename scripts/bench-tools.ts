import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { resolveProgram } from "../src/sys-spawn.ts";
import { type Line, output, ROOT } from "./bench-measure.ts";

/*
 * Package managers for the benchmarks. One that the machine doesn't have in a system directory, where Aegis takes programs from, is put
 * there for a mount namespace that ends with the measurement; the machine itself is not changed.
 */

/** Debian's packages by tool; everything that they need and the machine lacks comes with them. */
const DEBIAN: Readonly<Record<string, string>> = { cargo: "cargo-web", go: "golang-go" };

/** Set in the namespace, so that nothing tries again there. */
const INSIDE = "AEGIS_BENCH_NAMESPACE";

/**
 * What `measure` returns where the tool is, in this process if it is in a system directory; otherwise `script` is run with `args` in a
 * namespace in which it is, and prints the lines as JSON. Without the tool one line says that nothing was measured, and why.
 */
export function withTool(
  tool: string,
  script: string,
  args: readonly string[],
  measure: () => Line[],
): Line[] {
  if (resolveProgram(tool) !== null) return measure();
  const absent = (why: string): Line[] => [{ name: `plan ${tool} install`, not_measured: why }];
  if (process.env[INSIDE] !== undefined) return absent(`no ${tool} command in a system directory`);
  if (process.getuid?.() !== 0)
    return absent(`no ${tool} command in a system directory, and only root can lend one`);
  const mounting = ownProgram(tool) ?? debianOverlay(tool);
  if (mounting === null)
    return absent(`no ${tool} command on this machine, and Debian's package of it can't be had`);
  try {
    const [mount, ...words] = mounting;
    const shell = `${mount} && shift ${words.length} && exec "$@"`;
    return JSON.parse(
      output(["unshare", "--mount", "sh", "-c", shell, "sh", ...words, process.execPath, script, ...args], {
        env: { ...process.env, [INSIDE]: "1" },
      }),
    );
  } catch (error) {
    return absent(error instanceof Error ? error.message.slice(0, 300) : String(error));
  }
}

/** Links a program that PATH has elsewhere, if what it is belongs to root. */
function ownProgram(tool: string): [string, ...string[]] | null {
  const found = Bun.which(tool);
  // rustup's cargo is a link to rustup, which is nothing without root's home.
  if (found === null || tool === "cargo") return null;
  return [
    'mount -t tmpfs -o mode=755 tmpfs /usr/local/sbin && ln -s "$1" "/usr/local/sbin/$2"',
    realpathSync(found),
    tool,
  ];
}

/** Lays Debian's packages of a tool over /usr, unpacked into the checkout's cache. */
function debianOverlay(tool: string): [string, ...string[]] | null {
  const name = DEBIAN[tool];
  const root = name === undefined ? null : unpackedDebian(name);
  return root === null ? null : ['mount -t overlay -o "lowerdir=$1:/usr" overlay /usr', join(root, "usr")];
}

/**
 * The packages that apt would install for this one, unpacked; made once, kept in node_modules/.cache. Null where they can't be had.
 * They are not installed: their scripts don't run.
 */
export function unpackedDebian(name: string): string | null {
  const root = join(ROOT, "node_modules/.cache/debian", name);
  const done = join(root, ".complete");
  if (existsSync(done)) return root;
  const archives = join(root, ".archives");
  mkdirSync(join(archives, "partial"), { recursive: true });
  const { status } = spawnSync("/usr/bin/apt-get", [
    ...["-y", "--no-install-recommends", "--download-only", "-o", "Debug::NoLocking=1"],
    ...["-o", `Dir::Cache::archives=${archives}`, "install", name],
  ]);
  const debs = status === 0 ? readdirSync(archives).filter((file) => file.endsWith(".deb")) : [];
  if (!debs.some((file) => file.startsWith(`${name}_`))) return null;
  for (const deb of debs) output(["dpkg-deb", "-x", join(archives, deb), root]);
  output(["touch", done]);
  return root;
}
