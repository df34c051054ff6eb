import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/*
 * OpenSSH's own security key in software, regress/misc/sk-dummy, compiled from Debian's source of openssh. It signs without a
 * person, with the flags that it is asked for. Null where there is no compiler or no source: a caller skips, and says so.
 */

const CACHE = join(import.meta.dir, "../node_modules/.cache/sk-dummy");
/** In place of OpenSSH's includes.h, which wants a configured tree. */
const INCLUDES = `#include <sys/types.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define HAVE_STDINT_H 1
#define HAVE_EXPLICIT_BZERO 1
#define __bounded__(x, y, z)
#include "openbsd-compat/sha2.h"
`;
const SOURCES = [
  "regress/misc/sk-dummy/sk-dummy.c",
  "ed25519.c",
  "hash.c",
  "crypto_api.h",
  "sk-api.h",
  "openbsd-compat/sha2.c",
  "openbsd-compat/sha2.h",
];
const UNTOUCHED = "sk-untouched.c";
/** A token that nobody touches: what is signed is refused, as hardware does after its time. */
const UNTOUCHED_SOURCE = `#include <stdint.h>
#include <stddef.h>
uint32_t sk_api_version(void) { return 0x000a0000; }
int sk_enroll(void) { return -1; }
int sk_sign(void) { return -1; }
int sk_load_resident_keys(void) { return -2; }
`;

/** The providers for SSH_SK_PROVIDER: one that signs at once, and one that waits for a touch in vain. */
interface Tokens {
  touched: string;
  untouched: string;
}

export function softwareTokens(): Tokens | null {
  const tokens = { touched: join(CACHE, "sk-dummy.so"), untouched: join(CACHE, "sk-untouched.so") };
  if (existsSync(tokens.untouched)) return tokens;
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(CACHE, "work-"));
  try {
    return build(work, tokens) ? tokens : null;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function build(work: string, tokens: Tokens): boolean {
  const run = (program: string, ...args: string[]) =>
    spawnSync(program, args, { cwd: work, stdio: "ignore" }).status === 0;
  for (const name of ["lists/partial", "cache/archives/partial", "openbsd-compat"]) {
    mkdirSync(join(work, name), { recursive: true });
  }
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  writeFileSync(
    join(work, "sources.list"),
    `deb-src [signed-by=${keyring}] http://deb.debian.org/debian bookworm main\n`,
  );
  const settings = [
    `Dir::Etc::sourcelist=${work}/sources.list`,
    "Dir::Etc::sourceparts=/dev/null",
    `Dir::State::lists=${work}/lists`,
    `Dir::Cache=${work}/cache`,
    "APT::Sandbox::User=root",
  ].flatMap((setting) => ["-o", setting]);
  if (!run("/usr/bin/apt-get", ...settings, "update")) return false;
  if (!run("/usr/bin/apt-get", ...settings, "source", "--download-only", "openssh")) return false;
  const archive = readdirSync(work).find((name) => name.endsWith(".orig.tar.gz"));
  if (archive === undefined) return false;
  const members = SOURCES.map((name) => `*/${name}`);
  if (!run("/usr/bin/tar", "xzf", archive, "--strip-components=1", "--wildcards", ...members)) return false;
  renameSync(join(work, SOURCES[0] ?? ""), join(work, "sk-dummy.c"));
  writeFileSync(join(work, "includes.h"), INCLUDES);
  writeFileSync(join(work, UNTOUCHED), UNTOUCHED_SOURCE);
  const compile = (to: string, ...from: string[]) =>
    run("/usr/bin/gcc", "-shared", "-fPIC", "-O1", "-w", "-I.", "-o", to, ...from);
  if (!compile("touched.so", "sk-dummy.c", "ed25519.c", "hash.c", "openbsd-compat/sha2.c")) return false;
  if (!compile("untouched.so", UNTOUCHED)) return false;
  renameSync(join(work, "touched.so"), tokens.touched);
  renameSync(join(work, "untouched.so"), tokens.untouched);
  return true;
}
