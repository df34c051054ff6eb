import { chmodSync, chownSync, readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { AegisError, messageOf } from "./errors.ts";
import { peerOf } from "./ffi.ts";
import { type Desk, serveClient } from "./front-client.ts";
import { FRONT_LIMITS, type FrontLimits } from "./front-limits.ts";
import type { Log } from "./log.ts";
import { reportRefusals } from "./refusals.ts";
import { claimSocketPath } from "./socket-path.ts";
import { rememberUsedPlans } from "./used-plans.ts";
import { encodeMessage } from "./varlink.ts";
import { errorReply } from "./varlink-interface.ts";

export interface FrontOptions {
  /** Where clients connect: a path made here (group and mode as given, else 0600 of ours), or a listening socket. */
  listen: { path: string; mode?: number; gid?: number } | { fd: number };
  runner: { path: string };
  limits?: Partial<FrontLimits>;
  /** The cheap checks of a submitted plan's text; what it throws is the answer. The runner does them all again. */
  verify(plan: string): void;
  log: Log;
}

/**
 * Starts the socket-facing half of the executor: it identifies and limits clients, refuses what is plainly wrong, and
 * relays the rest to the runner. It needs no privilege, and nothing rests on what it says.
 * @throws AegisError `exists` when another daemon has the path, `unavailable` with too few file descriptors, `io`
 */
export async function startFront(options: FrontOptions): Promise<{ close(): Promise<void> }> {
  const { listen, runner, log } = options;
  const limits = { ...FRONT_LIMITS, ...options.limits };
  requireDescriptors(limits);
  const claim = "path" in listen ? await claimSocketPath(listen.path) : null;
  const refusals = reportRefusals(runner.path, limits.reportMs, log);
  const clients = new Map<Socket, number>();
  const lingering = new Set<Socket>();
  const desk: Desk = {
    limits,
    runnerPath: runner.path,
    verify: options.verify,
    log,
    refusals,
    usedPlans: rememberUsedPlans(),
    applies: new Set(),
  };

  const admit = (socket: Socket) => {
    // Bun accepts one connection at a time and calls this before the next, so that descriptors can't run out here
    // and its accept loop never meets EMFILE, on which it would spin.
    socket.on("error", (error) => log.debug("client connection failed", { problem: error.message }));
    const peer = peerOf(descriptorOf(socket));
    // A verified submission counts for the queue instead: its owner may have more of them waiting than connections.
    const ofUid = [...clients].filter(([it, uid]) => uid === peer.uid && !desk.applies.has(it)).length;
    if (clients.size >= limits.clients || ofUid >= limits.clientsPerUid) {
      const whose = ofUid >= limits.clientsPerUid ? "you have" : "the executor has";
      const hint = "Wait until one of them ends, then try again.";
      turnAway(socket, new AegisError("busy", `${whose} too many connections open`, hint), lingering, limits);
      refusals.add({ code: "busy", uid: peer.uid, request_sha256: null, execution_id: null });
      return;
    }
    clients.set(socket, peer.uid);
    socket.on("close", () => clients.delete(socket));
    serveClient(socket, { uid: peer.uid, gid: peer.gid, pid: peer.pid }, desk);
  };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    try {
      admit(socket);
    } catch (error) {
      log.error("a client could not be served", { problem: messageOf(error) });
      socket.destroy();
    }
  });

  try {
    await listenOn(server, listen);
  } catch (error) {
    claim?.release();
    throw error;
  }
  log.info("the front listens", "path" in listen ? { path: listen.path } : { fd: listen.fd });
  const close = async () => {
    const stopped = new Promise((resolve) => server.close(resolve));
    for (const socket of [...clients.keys(), ...lingering]) socket.destroy();
    await stopped;
    await refusals.close();
    claim?.release();
  };
  let closed: Promise<void> | undefined;
  return {
    close() {
      closed ??= close();
      return closed;
    },
  };
}

/** Says why, then hangs up: politely, as long as that costs few descriptors. */
function turnAway(socket: Socket, why: AegisError, lingering: Set<Socket>, limits: FrontLimits): void {
  socket.write(encodeMessage(errorReply(why)));
  if (lingering.size >= limits.lingering) {
    socket.destroy();
    return;
  }
  // A client that is still sending would lose the answer to EPIPE if the connection was gone.
  lingering.add(socket);
  const timer = setTimeout(() => socket.destroy(), limits.lingerMs);
  socket.on("close", () => {
    clearTimeout(timer);
    lingering.delete(socket);
  });
  socket.on("data", () => {});
  socket.on("end", () => socket.destroy());
  socket.end();
}

/**
 * The descriptor of an accepted socket; Bun keeps it on the handle.
 * @throws AegisError `internal` where there is none (any more)
 */
export function descriptorOf(socket: Socket): number {
  const handle: unknown = "_handle" in socket ? socket._handle : null;
  if (typeof handle === "object" && handle !== null && "fd" in handle && typeof handle.fd === "number") {
    if (handle.fd >= 0) return handle.fd;
  }
  throw new AegisError("internal", "a client's socket has no descriptor");
}

function listenOn(server: Server, where: FrontOptions["listen"]): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => reject(new AegisError("io", `can't listen: ${error.message}`));
    server.on("error", failed);
    if ("fd" in where) {
      server.listen({ fd: where.fd }, resolve);
      return;
    }
    // Nobody but us may connect until owner and mode are right.
    const mask = process.umask(0o177);
    server.listen({ path: where.path }, () => {
      process.umask(mask);
      try {
        if (where.gid !== undefined) chownSync(where.path, -1, where.gid);
        if (where.mode !== undefined) chmodSync(where.path, where.mode);
        resolve();
      } catch (error) {
        server.close();
        failed(new Error(messageOf(error)));
      }
    });
  });
}

/** Each client may need a connection to the runner; the rest is what the process itself has open. */
function requireDescriptors(limits: FrontLimits): void {
  const needed = 2 * limits.clients + limits.lingering + 32;
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  if (soft !== undefined && Number(soft) < needed) {
    const hint = `Raise the limit (ulimit -n, or LimitNOFILE= of the unit) to ${needed}.`;
    throw new AegisError("unavailable", `${soft} open files are too few for the front`, hint);
  }
}
