import { lstatSync } from "node:fs";
import { connect } from "node:net";
import { AegisError, messageOf } from "./errors.ts";
import { SYSTEM } from "./paths.ts";

/*
 * The units of systemd that confine managed runs. Each connection to a socket, which root alone can reach, starts a process: the
 * first one of a sandbox, or the one that fetches. It gets one line and ends with the connection.
 */

export const UNIT_JOURNAL = "Type: journalctl -b -u 'aegis-build@*' -u 'aegis-unpack@*' -u 'aegis-fetch@*'";
export const LISTEN =
  "Type as root: systemctl start aegis-build.socket aegis-unpack.socket aegis-fetch.socket; if there are none: aegis daemon install";

/** The sockets of the units; null where there is none, and namespaces are made by hand. */
export interface SandboxUnits {
  build: string | null;
  /** For tools that unpack files of several users. */
  unpack: string | null;
  fetch: string | null;
}

/** @throws AegisError `refused` for a path that isn't a socket of root's alone */
export function sandboxUnits(): SandboxUnits {
  const [build, unpack, fetch] = [SYSTEM.buildSocket, SYSTEM.unpackSocket, SYSTEM.fetchSocket].map(
    rootSocket,
  );
  return { build: build ?? null, unpack: unpack ?? null, fetch: fetch ?? null };
}

function rootSocket(path: string): string | null {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return null;
  if (stat.isSocket() && stat.uid === 0 && (stat.mode & 0o077) === 0) return path;
  throw new AegisError("refused", `${path} is not a socket that root alone can reach`, `Look: ls -l ${path}`);
}

/**
 * Starts a unit's process, gives it `line`, and resolves when it has ended and all that it started.
 * @throws AegisError `unavailable` if it can't be reached; what `take` throws; the reason of `stop`
 */
export function callUnit(
  path: string,
  line: string,
  take: (data: Buffer) => void,
  stop: AbortSignal,
): Promise<void> {
  const socket = connect(path);
  let failure: unknown = null;
  let isConnected = false;
  const fail = (error: unknown) => {
    if (failure === null) socket.write("stop\n");
    failure ??= error;
  };
  const aborted = () => fail(stop.reason);
  return new Promise((resolve, reject) => {
    socket.on("connect", () => {
      isConnected = true;
      socket.write(line);
      if (stop.aborted) aborted();
      stop.addEventListener("abort", aborted);
    });
    socket.on("data", (data: Buffer) => {
      try {
        if (failure === null) take(data);
      } catch (error) {
        fail(error);
      }
    });
    socket.on("error", (error) => {
      failure ??= isConnected
        ? new AegisError("unavailable", `what ${path} starts has ended: ${messageOf(error)}`, UNIT_JOURNAL)
        : new AegisError("unavailable", `${path} can't be reached: ${messageOf(error)}`, LISTEN);
    });
    socket.on("close", () => {
      stop.removeEventListener("abort", aborted);
      if (failure === null) resolve();
      else reject(failure);
    });
  });
}
