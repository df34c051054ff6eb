import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, chownSync, closeSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { AegisError, messageOf } from "./errors.ts";
import type { BareKeys } from "./key-trusted-keys.ts";
import type { Log } from "./log.ts";
import { SYSTEM } from "./paths.ts";
import { isCompiled, selfCommand, stopSignal } from "./self.ts";
import { unusedId } from "./sys-account.ts";
import { descriptorOf, listenUnix } from "./sys-ffi.ts";
import { rootOnlyProblem } from "./sys-files.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";
import { ADMIN_GROUP, groupId, prepareState, USERS, userIds } from "./sys-state.ts";
import { RUNNER_SLOTS } from "./wire-limits.ts";
import { claimSocketPath } from "./wire-socket-path.ts";

const FRONT_PAUSE_MS = 500;

export interface SupervisorOptions {
  /** Path of the socket for clients. */
  socket: string;
  bare: BareKeys;
  log: Log;
}

/**
 * Runs the executor by hand, as root: creates both sockets, starts the front as an unprivileged child, and one runner per
 * request. Never reads client data. Returns on a stop signal; runs in progress continue.
 * @throws AegisError `usage` when not root, `refused` if others can replace the executable, `exists` if another daemon owns
 * a socket, `io`
 */
export async function supervise({ socket, bare, log }: SupervisorOptions): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new AegisError(
      "usage",
      "the executor must be started as root: it runs the package manager",
      "Type: sudo aegis daemon --executor",
    );
  }
  const problem = isCompiled() ? rootOnlyProblem(process.execPath) : null;
  if (problem !== null) {
    throw new AegisError(
      "refused",
      `root must not run this file: ${problem}`,
      "Copy aegis to /usr/local/bin as root, and start it from there.",
    );
  }
  prepareState();
  for (const path of [SYSTEM.run, dirname(socket)]) makeSocketDirectory(path);
  const claims = [await claimSocketPath(socket), await claimSocketPath(SYSTEM.runnerSocket)];
  const user = frontUser(log);
  const admin = groupId(ADMIN_GROUP);
  if (admin === null) log.warn(`there is no group ${ADMIN_GROUP}: only root can submit plans`);

  const mask = process.umask(0o177);
  const clients = listenUnix(socket);
  process.umask(mask);
  chownSync(socket, 0, admin ?? 0);
  chmodSync(socket, 0o660);
  const runners = await listenForRunners(user.gid, (connection) => startRunner(connection, bare, log));
  startRecovery(log);

  let stopping = false;
  let front = startFrontProcess(clients, user, bare);
  const guard = (child: ChildProcess) => {
    const again = () => {
      setTimeout(() => {
        if (stopping) return;
        front = startFrontProcess(clients, user, bare);
        guard(front);
      }, FRONT_PAUSE_MS);
    };
    child.on("error", (error) => {
      // For example, another user can't run a program below /root.
      log.error("the front can't be started", { problem: error.message, program: process.execPath });
      again();
    });
    child.on("exit", (status, signal) => {
      if (stopping) return;
      log.warn("the front exited; restarting it", { status: status ?? -1, signal: signal ?? "" });
      again();
    });
  };
  guard(front);
  log.info("executor ready", { socket, front_uid: user.uid });

  await stopSignal();
  stopping = true;
  log.info("stopping; a run in progress continues");
  front.kill("SIGTERM");
  runners.close();
  closeSync(clients);
  rmSync(socket, { force: true });
  for (const claim of claims) claim.release();
}

/** Creates a directory for sockets, writable by root only. */
function makeSocketDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o755 });
  const stat = lstatSync(path);
  if (!stat.isDirectory() || stat.uid !== 0 || (stat.mode & 0o022) !== 0) {
    throw new AegisError(
      "io",
      `${path} must be a directory that only root can write to`,
      "Choose another directory with --socket <path>.",
    );
  }
}

/**
 * The front's user: aegis-front if it exists, else an unused uid. Not `nobody`: any other process running as nobody could
 * then talk to the runner as if it were the front.
 */
function frontUser(log: Log): { uid: number; gid: number } {
  const own = userIds(USERS.front);
  if (own !== null) return own;
  const uid = unusedId();
  log.info("there is no user aegis-front: the front runs under an unused uid", { uid });
  return { uid, gid: uid };
}

function listenForRunners(gid: number, serve: (connection: Socket) => void): Promise<{ close(): void }> {
  const server = createServer({ pauseOnConnect: true }, serve);
  return new Promise((resolve, reject) => {
    server.on("error", (error) =>
      reject(new AegisError("io", `can't listen on ${SYSTEM.runnerSocket}: ${messageOf(error)}`)),
    );
    const mask = process.umask(0o177);
    server.listen(SYSTEM.runnerSocket, () => {
      process.umask(mask);
      chownSync(SYSTEM.runnerSocket, 0, gid);
      chmodSync(SYSTEM.runnerSocket, 0o660);
      resolve({ close: () => server.close() });
    });
  });
}

let runnersAlive = 0;

/** Starts a runner in its own session, with the connection as its standard input. */
function startRunner(connection: Socket, bare: BareKeys, log: Log): void {
  connection.on("error", () => {});
  if (runnersAlive >= RUNNER_SLOTS) {
    log.warn("too many requests at once; refused one", { runners: runnersAlive });
    connection.destroy();
    return;
  }
  runnersAlive++;
  const { program, words } = selfCommand();
  const child = spawn(program, [...words, "daemon", "--runner", ...keyFlags(bare)], {
    stdio: [descriptorOf(connection), "ignore", "inherit"],
    env: childEnvironment(),
    cwd: "/",
    detached: true,
  });
  const done = () => connection.destroy();
  child.on("spawn", done);
  child.on("error", (error) => {
    runnersAlive--;
    log.error("a runner could not be started", { problem: error.message });
    done();
  });
  child.on("exit", (status, signal) => {
    runnersAlive--;
    if (status === 0) return;
    log.error("a runner died", { status: status ?? -1, signal: signal ?? "" });
    startRecovery(log);
  });
}

/** Starts a process that closes a run whose runner died; it first waits for the package manager to end. */
function startRecovery(log: Log): void {
  const { program, words } = selfCommand();
  const child = spawn(program, [...words, "daemon", "--recover"], {
    stdio: ["ignore", "ignore", "inherit"],
    env: childEnvironment(),
    cwd: "/",
    detached: true,
  });
  child.on("error", (error) => log.error("recovery could not be started", { problem: error.message }));
}

function startFrontProcess(
  listening: number,
  user: { uid: number; gid: number },
  bare: BareKeys,
): ChildProcess {
  const { program, words } = selfCommand();
  return spawn(program, [...words, "daemon", "--executor", ...keyFlags(bare)], {
    // The pipe on stdin closes however we end, so the front can't outlive us and keep the socket.
    stdio: ["pipe", "ignore", "inherit", listening],
    // As under systemd (sd_listen_fds(3)): descriptor 3 is the listening socket.
    env: { ...childEnvironment(), LISTEN_FDS: "1" },
    cwd: "/",
    uid: user.uid,
    gid: user.gid,
  });
}

function keyFlags(bare: BareKeys): string[] {
  return [
    ...bare.execution.flatMap((key) => ["--public-key-hex", key]),
    ...bare.approval.flatMap((key) => ["--approval-public-key-hex", key]),
  ];
}

/** Passes on the logging settings only: no other variable of the caller's may reach root's processes. */
function childEnvironment(): Record<string, string> {
  const environment: Record<string, string> = { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" };
  for (const name of ["AEGIS_LOG", "AEGIS_LOG_FORMAT", "RUST_LOG", "JOURNAL_STREAM"]) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}
