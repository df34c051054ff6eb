import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { REGISTRY_FILES, type SandboxSpec } from "./eco-sandbox.ts";
import { readText } from "./sys-files.ts";
import {
  bind,
  enterRoot,
  mountOnItself,
  mountProc,
  mountTmpfs,
  privateMounts,
  sealMount,
} from "./sys-namespace.ts";

/*
 * The root directory of a sandbox: programs and libraries of the host, read-only; a few files of /etc that they need to start;
 * four devices; the processes of the sandbox. Nothing else of the host has a name in it.
 */

const PROGRAMS = ["/usr", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
const SETTINGS = [
  ...["/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"],
  ...["/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/etc/localtime"],
  // Which libraries of the system a runtime loads.
  "/etc/mono",
];
const DEVICES = ["null", "zero", "full", "random", "urandom"];
/** Of a sandbox that has the host's network. */
const NETWORK = ["/etc/resolv.conf", "/etc/hosts"];
/** Where the root of the program lies below the root of the namespace. */
const INNER = "inner";
/** A file inside, locked by the first process until the users of the program's namespace are mapped. */
export const USERS_MAPPED = "/build/users-mapped";

/** Makes the root of a sandbox and enters it. Nothing of the host can be reached afterwards. @throws AegisError `unavailable` */
export function enterSandboxRoot(spec: SandboxSpec): void {
  privateMounts();
  mountTmpfs(spec.root, "16m");
  const inner = join(spec.root, INNER);
  mkdirSync(inner, { mode: 0o755 });
  const isOnTop = spec.users !== undefined;
  if (isOnTop) mountOnItself(inner);
  for (const path of PROGRAMS) show(path, inner);
  for (const path of nestedMounts()) bind(path, join(inner, path), "read-only");
  for (const path of SETTINGS) show(path, inner);
  for (const name of readdirSync("/etc").filter((one) => /^python3(?:\.\d+)?$/.test(one)))
    show(`/etc/${name}`, inner);
  writeAccounts(spec, inner);
  for (const path of spec.network ? NETWORK : [])
    writeFileSync(join(inner, path), readText(path) ?? "", { mode: 0o644 });
  for (const name of DEVICES) {
    touch(join(inner, "dev", name));
    bind(`/dev/${name}`, join(inner, "dev", name), "device");
  }
  for (const directory of ["proc", "tmp", "run", "var/tmp"]) makeDirectory(join(inner, directory));
  mountProc(join(inner, "proc"));
  for (const { from, to, writable } of spec.binds) {
    const target = join(inner, to);
    if (lstatSync(from).isDirectory()) makeDirectory(target);
    else if (!existsSync(target)) touch(target);
    bind(from, target, writable ? "writable" : "read-only");
  }
  makeDirectory(join(inner, spec.cwd));
  if (isOnTop) touch(join(inner, USERS_MAPPED));
  if (spec.registry !== null) {
    makeDirectory(join(spec.root, REGISTRY_FILES));
    bind(spec.registry.files, join(spec.root, REGISTRY_FILES), "read-only");
  }
  sealMount(spec.root);
  if (isOnTop) sealMount(inner);
  enterRoot(spec.root, INNER, isOnTop);
}

/** Shows a path of the host inside, if the host has it: a link as a link, everything else read-only. */
function show(path: string, inner: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const target = join(inner, path);
  if (stat.isSymbolicLink()) {
    makeDirectory(dirname(target));
    symlinkSync(readlinkSync(path), target);
    return;
  }
  if (stat.isDirectory()) makeDirectory(target);
  else touch(target);
  bind(path, target, "read-only");
}

/** File systems that are mounted within the host's programs: a bind shows the file system that it names, and no other. */
function nestedMounts(): string[] {
  const points = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => /^\/(?:usr|opt)\/./.test(point) && !point.includes("\\") && existsSync(point));
  return [...new Set(points)].sort();
}

/** Users and groups with a name inside: root's and the program's, which is root in a user namespace of its own. */
function writeAccounts({ account, users }: SandboxSpec, inner: string): void {
  const { name, uid, gid } = account;
  makeDirectory(join(inner, "etc"));
  const write = (file: string, text: string) =>
    writeFileSync(join(inner, "etc", file), text, { mode: 0o644 });
  const root = users === undefined ? "/nonexistent" : "/build/home";
  write("passwd", `root:x:0:0::${root}:/bin/false\n${name}:x:${uid}:${gid}::/build/home:/bin/false\n`);
  write("group", `root:x:0:\n${name}:x:${gid}:\n`);
  write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
  write("hosts", "127.0.0.1 localhost\n");
}

function makeDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o755 });
}

function touch(path: string): void {
  makeDirectory(dirname(path));
  writeFileSync(path, "", { mode: 0o644 });
}
