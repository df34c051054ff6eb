import { chmodSync, chownSync, readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { AegisError, messageOf } from "./errors.ts";
import type { Log } from "./log.ts";
import { descriptorOf, peerOf } from "./sys-ffi.ts";
import { encodeMessage } from "./wire.ts";
import type { ByteBudget } from "./wire-budget.ts";
import { refusalReply } from "./wire-service.ts";
import { type ServerLimits, type Service, type Session, serveClient } from "./wire-session.ts";
import { claimSocketPath } from "./wire-socket-path.ts";

/** Where clients connect: a path to create (with group and mode, default 0600 of this user), or a listening socket. */
export type Listen = { path: string; mode?: number; gid?: number } | { fd: number };

export interface ServerOptions {
  listen: Listen;
  service: Service;
  limits: ServerLimits;
  /** Memory for requests not yet being answered. */
  budget: ByteBudget;
  /** Open files needed per client, and by connections that are limited apart. */
  descriptorsPerClient: number;
  descriptorsApart?: number;
  log: Log;
}

/**
 * Serves varlink on a unix socket: identifies and limits clients, and passes their calls to `service`. `close`
 * disconnects all clients and releases the path.
 * @throws AegisError `exists` if another daemon has the path, `unavailable` with too few file descriptors, `io`
 */
export async function startServer(options: ServerOptions): Promise<{ close(): Promise<void> }> {
  const { listen, service, limits, log } = options;
  requireDescriptors(options);
  const claim = "path" in listen ? await claimSocketPath(listen.path) : null;
  const clients = new Map<Socket, Session>();
  const lingering = new Set<Socket>();

  const admit = (socket: Socket) => {
    // Bun accepts one connection at a time and calls this before accepting the next. So descriptors can't run out, and
    // its accept loop never gets EMFILE, which would make it spin.
    socket.on("error", (error) => log.debug("client connection failed", { problem: error.message }));
    const { uid, gid, pid } = peerOf(descriptorOf(socket));
    const counted = [...clients.values()].filter((it) => !it.isApart());
    const ofUid = counted.filter((it) => it.uid === uid && it.counts()).length;
    if (counted.length >= limits.clients || ofUid >= limits.clientsPerUid) {
      const subject = ofUid >= limits.clientsPerUid ? "you have" : `${service.title} has`;
      const hint = "Wait until one of them ends, then try again.";
      const why = new AegisError("busy", `${subject} too many connections open`, hint);
      rejectClient(socket, refusalReply(why, service.interface), lingering, limits);
      service.refused({ code: why.code, uid, request_sha256: null });
      return;
    }
    clients.set(socket, serveClient(socket, { uid, gid, pid }, options));
    socket.on("close", () => clients.delete(socket));
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
  log.info(`${service.title} listens`, "path" in listen ? { path: listen.path } : { fd: listen.fd });
  const close = async () => {
    const stopped = new Promise((resolve) => server.close(resolve));
    for (const socket of [...clients.keys(), ...lingering]) socket.destroy();
    await stopped;
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

/** Sends the refusal and closes the connection, gracefully while that costs few descriptors. */
function rejectClient(socket: Socket, why: object, lingering: Set<Socket>, limits: ServerLimits): void {
  socket.write(encodeMessage(why));
  if (lingering.size >= limits.lingering) {
    socket.destroy();
    return;
  }
  // Closing at once would make a client that is still sending lose the answer to EPIPE.
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

function listenOn(server: Server, where: Listen): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => reject(new AegisError("io", `can't listen: ${error.message}`));
    server.on("error", failed);
    if ("fd" in where) {
      server.listen({ fd: where.fd }, resolve);
      return;
    }
    // Only we may connect until owner and mode are set.
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

/** The constant covers the process's other open files. */
function requireDescriptors(options: ServerOptions): void {
  const { service, limits, descriptorsPerClient, descriptorsApart = 0 } = options;
  const needed = descriptorsPerClient * limits.clients + descriptorsApart + limits.lingering + 32;
  const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  if (soft !== undefined && Number(soft) < needed) {
    const hint = `Raise it (ulimit -n, or LimitNOFILE= of the unit) to ${needed}.`;
    throw new AegisError(
      "unavailable",
      `the limit of ${soft} open files is too low for ${service.title}`,
      hint,
    );
  }
}
