import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { version } from "../package.json" with { type: "json" };
import { NEEDRESTART_FILE, needrestartText } from "../src/host-drop-ins.ts";

/*
 * The tree of a .deb of Aegis, for dpkg-deb: `bun scripts/deb-tree.ts <architecture> <executable> <manual page> <directory>`.
 *
 * The package brings files and sets nothing up: that stays `aegis daemon install`, which copies the program to /usr/local/bin, from
 * where the services run. So a package upgrade that Aegis itself runs can't replace the program of the run.
 */

const [architecture = "", executable = "", manual = "", directory = ""] = process.argv.slice(2);
const ROOT = join(import.meta.dir, "..");
/** Debian's spelling: `1.0.0~rc.1` comes before `1.0.0` (deb-version(7)). */
const debVersion = version.replace("-", "~");

/** For `dpkg --verify`, without leading slashes; configuration files are dpkg's own. */
const sums: string[] = [];
function note(path: string, content: string | Buffer): void {
  if (path.startsWith("usr/")) sums.push(`${createHash("md5").update(content).digest("hex")}  ${path}\n`);
}

function put(path: string, content: string | Buffer, mode = 0o644): void {
  note(path, content);
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  writeFileSync(file, content);
  chmodSync(file, mode);
}

async function completion(shell: string): Promise<string> {
  const child = Bun.spawn([process.execPath, join(ROOT, "src/cli.ts"), "completion", shell], {
    stderr: "inherit",
    env: { PATH: "/usr/bin:/bin", HOME: "/dev/null", LC_ALL: "C.UTF-8" },
  });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`aegis completion ${shell} failed`);
  return text;
}

mkdirSync(join(directory, "usr/bin"), { recursive: true, mode: 0o755 });
copyFileSync(executable, join(directory, "usr/bin/aegis"));
chmodSync(join(directory, "usr/bin/aegis"), 0o755);
note("usr/bin/aegis", readFileSync(executable));
put("usr/share/man/man1/aegis.1.gz", gzipSync(readFileSync(manual), { level: 9 }));
put("usr/share/bash-completion/completions/aegis", await completion("bash"));
put("usr/share/zsh/vendor-completions/_aegis", await completion("zsh"));
put("usr/share/fish/vendor_completions.d/aegis.fish", await completion("fish"));
put(NEEDRESTART_FILE, needrestartText());
put("usr/share/doc/aegis/changelog.gz", gzipSync(readFileSync(join(ROOT, "CHANGELOG.md")), { level: 9 }));
put(
  "usr/share/doc/aegis/copyright",
  `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: aegis

Files: *
Copyright: 2026 the Aegis authors
License: Expat
${readFileSync(join(ROOT, "LICENSE"), "utf8")
  .split("\n")
  .slice(4)
  .map((line) => (line === "" ? " ." : ` ${line}`))
  .join("\n")
  .replace(/(?:\n \.)+$/, "")}
Comment: The executable contains Bun and the packages that bun.lock names, each under its own license.
`,
);
const { size } = Bun.file(executable);
put(
  "DEBIAN/control",
  `Package: aegis
Version: ${debVersion}
Architecture: ${architecture}
Maintainer: the Aegis authors <root@localhost>
Installed-Size: ${Math.ceil(size / 1024) + 300}
Depends: libc6 (>= 2.17)
Recommends: gpgv | sqv
Suggests: needrestart
Section: admin
Priority: optional
Description: package changes that are planned, judged, signed and logged
 Aegis lets administrators and AI agents change packages without giving anyone
 a root shell. A request becomes a read-only plan, a policy decides about it, a
 person approves it, and an executor runs exactly what was signed.
 .
 This package brings the program. "aegis daemon install" sets up the services,
 also after an upgrade; "aegis daemon uninstall" takes them away, and has to be
 typed before the package is removed.
`,
);
put("DEBIAN/conffiles", `${NEEDRESTART_FILE}\n`);
put("DEBIAN/md5sums", sums.join(""));
