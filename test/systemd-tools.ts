import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { archiveSource, CACHE, isUbuntu, run, type Suite, suiteRoot } from "./systemd-root.ts";
import { codeServer, codeServerProgram } from "./vscode-peer.ts";

/*
 * A suite's root with npm, pip, go and cargo, as its own archive has them: made once, kept beside the plain one. It takes a minute, a
 * download of 280 MB and 2 GB on disk. Others have nuget, and podman.
 */

/** bookworm's first cargo is too old for today's crates; a newer one has a name of its own. */
const cargoOf = (suite: Suite) => (suite === "bookworm" ? "cargo-web" : "cargo");

/** Not needed, and half of all files. */
const LEAN =
  ["doc", "man", "locale", "info"].map((name) => `path-exclude=/usr/share/${name}/*\n`).join("") +
  "force-unsafe-io\n";

/** Arguments: the root, then the packages. The mounts end with their mount namespace. */
const INSTALL = `set -e; root=$1; shift
mount -t proc proc "$root/proc"
chroot "$root" apt-get update -o APT::Update::Error-Mode=any
chroot "$root" apt-get install -y --no-install-recommends "$@"
chroot "$root" apt-get clean`;

/** Where nuget comes from: Debian dropped it after 12, and Ubuntu after 22.04. Its Mono is the suite's own. */
const NUGET_OF: Readonly<Partial<Record<Suite, Suite>>> = {
  trixie: "bookworm",
  noble: "jammy",
  resolute: "jammy",
};

/** @throws Error with the words of what failed */
export const toolsRoot = (suite: Suite) =>
  rootWith(suite, "tools", ["npm", "python3-pip", "golang-go", cargoOf(suite)]);

/** @throws Error with the words of what failed */
export const nugetRoot = (suite: Suite) => rootWith(suite, "nuget", ["nuget"], NUGET_OF[suite]);

/**
 * With code-server, which brings its own node: the one that built its native modules.
 * @throws Error with the words of what failed
 */
export function codeServerRoot(suite: Suite): string {
  const directory = join(CACHE, `${suite}-code-server`);
  if (existsSync(directory)) return directory;
  const peer = codeServer();
  const node = Bun.which("node");
  if (peer === null || node === null) throw new Error("code-server can't be had from npm here");
  const work = `${directory}.new`;
  rmSync(work, { recursive: true, force: true });
  run("cp", ["--archive", suiteRoot(suite), work]);
  run("cp", ["--archive", peer, join(work, "usr/local/lib/code-server")]);
  run("cp", ["--dereference", node, join(work, "usr/local/lib/code-server/node")]);
  const program = codeServerProgram("/usr/local/lib/code-server/node");
  writeFileSync(join(work, "usr/local/bin/code-server"), program, { mode: 0o755 });
  renameSync(work, directory);
  return directory;
}

/**
 * docker's engine, which starts with the container: it must leave the machine's network alone, which containers share. The image store is
 * the engine's own, which works on any file system.
 */
const DOCKER_ALONE = JSON.stringify({
  ...{ "storage-driver": "vfs", iptables: false, ip6tables: false, "ip-forward": false, bridge: "none" },
  features: { "containerd-snapshotter": false },
});

/** Debian 13 has the command apart from the engine. */
const dockerOf = (suite: Suite) => (suite === "trixie" ? ["docker.io", "docker-cli"] : ["docker.io"]);

/** @throws Error with the words of what failed */
export const dockerRoot = (suite: Suite) =>
  rootWith(suite, "docker", dockerOf(suite), undefined, { "etc/docker/daemon.json": DOCKER_ALONE });

/** @throws Error with the words of what failed */
export const podmanRoot = (suite: Suite) => rootWith(suite, "podman", ["podman", "crun"]);

/** The directory of a root with these packages, of which some may be from another suite, and files; read-only by agreement. */
function rootWith(
  suite: Suite,
  name: string,
  packages: readonly string[],
  other?: Suite,
  files: Readonly<Record<string, string>> = {},
): string {
  const directory = join(CACHE, `${suite}-${name}`);
  if (existsSync(directory)) return directory;
  const work = `${directory}.new`;
  rmSync(work, { recursive: true, force: true });
  run("cp", ["--archive", suiteRoot(suite), work]);
  const at = (path: string) => join(work, path);
  // Where it is a link, as on Ubuntu, it leads out of the root.
  rmSync(at("etc/resolv.conf"), { force: true });
  run("cp", ["/etc/resolv.conf", at("etc/resolv.conf")]);
  const temporary = {
    "etc/apt/sources.list.d/archive.sources": [suite, ...(other === undefined ? [] : [other])]
      .map((one) => archiveSource(one, { updates: isUbuntu(one) }))
      .join("\n"),
    "etc/dpkg/dpkg.cfg.d/lean": LEAN,
    // invoke-rc.d(8): no service is started.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
  };
  for (const [path, text] of Object.entries(temporary)) writeFileSync(at(path), text, { mode: 0o755 });
  const namespaces = ["--mount", "--propagation", "private", "--pid", "--fork"];
  run("unshare", [...namespaces, "sh", "-c", INSTALL, "sh", work, ...packages]);
  for (const path of Object.keys(temporary)) rmSync(at(path));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(at(path)), { recursive: true });
    writeFileSync(at(path), text);
  }
  renameSync(work, directory);
  return directory;
}
