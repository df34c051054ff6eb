import { appendFileSync, readFileSync, statSync } from "node:fs";
import { atGate, eventually, executorProcesses, kindsOf, openGate, resultOf } from "../test/e2e-running.ts";
import type { Running } from "../test/throwaway.ts";
import { type Account, type SignedInstall, type Soak, settle } from "./soak-host.ts";

/*
 * A log and a record of used plans that can't be written: on a full, small file system, and with I/O errors that strace
 * injects.
 */

export interface DiskFault {
  what: string;
  sent: number;
  /** Answers during the fault. */
  answers: Record<string, number>;
  /** Answers for the same plans afterwards. */
  after: Record<string, number>;
  account: Account;
  /** Violated expectations. */
  problems: string[];
}

const LOG = { directory: "/var/log/aegis", file: "audit.ndjson", size: "48m" };
const RECORD = { directory: "/var/lib/aegis/spent", file: "spent.ndjson", size: "1m" };
type Place = typeof LOG;

const PAGE = 4096;

/** Why EIO can't be injected here, or null. */
export async function noEio({ chain }: Soak): Promise<string | null> {
  const { status } = await chain.host.exec(["strace", "-qq", "-e", "inject=fdatasync:error=EIO", "true"]);
  return status === 0 ? null : "strace is not installed, or may not trace";
}

/** Every fault in turn, with `each` plans; one ends before the next begins. */
export async function diskFaults(soak: Soak, each: number): Promise<DiskFault[]> {
  // One run first, so that both files exist.
  for (const { path } of await soak.installs(1)) await soak.chain.apply(path);
  for (const place of [LOG, RECORD]) await ownFileSystem(soak, place);
  const faults: { what: string; begin: () => Promise<() => Promise<void>>; during?: boolean }[] = [
    { what: "ENOSPC on the log", begin: () => fill(soak, LOG) },
    { what: "ENOSPC on the record", begin: () => fill(soak, RECORD) },
    { what: "ENOSPC on the log during a run", begin: () => fill(soak, LOG), during: true },
  ];
  if ((await noEio(soak)) === null) {
    for (const [name, place] of [
      ["the log", LOG],
      ["the record", RECORD],
    ] as const) {
      for (const call of ["write", "fdatasync"]) {
        faults.push({ what: `EIO of ${call} on ${name}`, begin: () => failing(soak, place, call) });
      }
    }
    faults.push({
      what: "EIO on the log during a run",
      begin: () => failing(soak, LOG, "fdatasync"),
      during: true,
    });
  }
  const results: DiskFault[] = [];
  for (const { what, begin, during } of faults) {
    results.push(
      await (during === true ? faultDuringRun(soak, what, begin) : fault(soak, what, begin, each)),
    );
  }
  for (const { directory } of [LOG, RECORD]) await keepContents(soak, directory);
  return results;
}

/** Plans submitted during the fault must be refused; afterwards they run, or are used up. */
async function fault(
  soak: Soak,
  what: string,
  begin: () => Promise<() => Promise<void>>,
  each: number,
): Promise<DiskFault> {
  const installs = await soak.installs(each);
  const end = await begin();
  const during = await applyAll(soak, installs);
  const begun = installs.filter(({ id }) => kindsOf(soak.chain, id).includes("execution_started"));
  await end();
  const after = await applyAll(soak, installs);
  const problems = begun.map(({ name }) => `${name} was started`);
  for (const [id, answer] of Object.entries(during)) {
    if (answer !== "io") problems.push(`${id} was answered ${answer}`);
  }
  for (const [id, answer] of Object.entries(after)) {
    if (answer !== "completed" && answer !== "replay")
      problems.push(`${id} is refused afterwards: ${answer}`);
  }
  return {
    what,
    sent: installs.length,
    answers: counted(during),
    after: counted(after),
    account: settle(soak, installs, after),
    problems,
  };
}

/** The fault begins while apt runs: the run goes on to its end, and the end is recorded eventually. */
async function faultDuringRun(
  soak: Soak,
  what: string,
  begin: () => Promise<() => Promise<void>>,
): Promise<DiskFault> {
  const { chain } = soak;
  const install = await soak.gated();
  const applying = chain.apply(install.path);
  await atGate(chain, install.name);
  const end = await begin();
  openGate(chain, install.name);
  const { status, stderr } = await applying;
  const during = codeOf(status, stderr);
  await end();
  // The next request closes the run that could not be closed then.
  await chain.aegis(["daemon", "status"]);
  await eventually(() => kindsOf(chain, install.id).length > 1);
  await eventually(() => resultOf(chain, install.id)?.state !== "running");
  const answers = { [install.id]: resultOf(chain, install.id)?.state ?? "no answer" };
  return {
    what,
    sent: 1,
    answers: counted({ [install.id]: during }),
    after: counted(answers),
    account: settle(soak, [install], answers),
    problems: [],
  };
}

async function applyAll(
  { chain }: Soak,
  installs: readonly SignedInstall[],
): Promise<Record<string, string>> {
  const answers: Record<string, string> = {};
  for (const { id, path } of installs) {
    const { status, stderr } = await chain.apply(path);
    answers[id] = codeOf(status, stderr);
  }
  return answers;
}

function codeOf(status: number, stderr: string): string {
  return status === 0 ? "completed" : (/\[(\w+)\]/.exec(stderr)?.[1] ?? `exit ${status}`);
}

function counted(answers: Readonly<Record<string, string>>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const answer of Object.values(answers)) counts[answer] = (counts[answer] ?? 0) + 1;
  return counts;
}

/** Mounts a small file system over a directory, with a copy of its content. */
async function ownFileSystem({ chain }: Soak, { directory, size }: Place): Promise<void> {
  const { mode, gid } = statSync(chain.host.path(directory));
  const options = `size=${size},mode=${(mode & 0o7777).toString(8)},uid=0,gid=${gid}`;
  await must(chain.host.exec(["mount", "-t", "tmpfs", "-o", options, "tmpfs", "/mnt"]));
  await must(chain.host.exec(["cp", "-a", `${directory}/.`, "/mnt"]));
  await must(chain.host.exec(["mount", "--move", "/mnt", directory]));
}

/** Unmounts it again, and keeps what was written. */
async function keepContents({ chain }: Soak, directory: string): Promise<void> {
  await must(chain.host.exec(["mount", "--move", directory, "/mnt"]));
  await must(chain.host.exec(["cp", "-a", "/mnt/.", directory]));
  await must(chain.host.exec(["umount", "/mnt"]));
}

/** Fills a file system to its last byte; returns a function that frees it again. */
async function fill({ chain }: Soak, { directory, file }: Place): Promise<() => Promise<void>> {
  const filler = `${directory}/filler`;
  if (file === RECORD.file) padRecord(chain.host.path(`${directory}/${file}`));
  await chain.host.exec(["dd", "if=/dev/zero", `of=${filler}`, "bs=4k"]);
  return () => must(chain.host.exec(["rm", filler]));
}

/** Pads the record to a page boundary with a made-up use: writes that fit into an allocated page succeed on a full disk. */
function padRecord(path: string): void {
  const text = readFileSync(path, "utf8");
  const last = JSON.parse(text.trimEnd().split("\n").at(-1) ?? "");
  const line = (pad: number) =>
    `${JSON.stringify({ ...last, execution_plan_id: "padding", operation_plan_hash: "", approvals: ["x".repeat(pad)] })}\n`;
  const room = PAGE - ((text.length + line(0).length) % PAGE);
  appendFileSync(path, line(room));
}

/** Makes a system call on a file fail in every process of the executor; returns a function that stops that. */
async function failing(soak: Soak, { directory, file }: Place, call: string): Promise<() => Promise<void>> {
  const { host } = soak.chain;
  const roles = ["supervisor", "runner"] as const;
  const pids = roles.flatMap((role) => executorProcesses(soak.chain, role)).map(({ pid }) => insideId(pid));
  const calls = call === "write" ? "write,pwrite64,writev,pwritev,pwritev2" : call;
  const strace: Running = await host.spawn([
    ...["strace", "-f", "-qq", "-o", "/tmp/strace", "-P", `${directory}/${file}`],
    ...["-e", `trace=${calls}`, "-e", `inject=${calls}:error=EIO`],
    ...pids.flatMap((pid) => ["-p", pid]),
  ]);
  await Bun.sleep(500);
  return async () => {
    // SIGKILL detaches strace at once; on SIGTERM it may wait for a thread that has exited.
    strace.kill("SIGKILL");
    await strace.exited;
  };
}

/** A process's id inside the host (proc_pid_status(5)). */
function insideId(pid: number): string {
  return /^NSpid:.*\s(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
}

async function must(command: Promise<{ status: number; stderr?: string }>): Promise<void> {
  const { status, stderr } = await command;
  if (status !== 0) throw new Error(`a command failed (${status}): ${stderr}`);
}
