import { closeSync, constants, lstatSync, openSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { tryFlock } from "./sys-ffi.ts";

/**
 * Claims the path of a unix socket for this process: fails if another daemon claims it or answers on it, and removes
 * what a dead one left. The claim is a lock on a file next to it, so that of two daemons starting together, one can't
 * remove the other's new socket as dead. Only its owner may be able to write to the directory.
 * @throws AegisError `exists` if another process has the path, `io`
 */
export async function claimSocketPath(path: string): Promise<{ release(): void }> {
  const taken = new AegisError(
    "exists",
    `another daemon has ${path}`,
    "Stop it first, or give this daemon another path with --socket.",
  );
  const fd = openLock(`${path}.lock`);
  try {
    if (!tryFlock(fd)) throw taken;
    switch (await probe(path)) {
      case "answers":
        throw taken;
      case "dead":
        if (!lstatSync(path).isSocket()) throw new AegisError("exists", `${path} exists but is not a socket`);
        unlinkSync(path);
        break;
      case "absent":
        break;
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  // The lock file stays: removing it would let a third process lock a new file while a second waits for this one.
  return { release: () => closeSync(fd) };
}

function openLock(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new AegisError("io", `can't lock ${path}: ${messageOf(error)}`);
  }
}

/** Whether anything accepts connections at `path`. */
function probe(path: string): Promise<"answers" | "dead" | "absent"> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.on("connect", () => {
      socket.destroy();
      resolve("answers");
    });
    socket.on("error", (error) => {
      const errno = errnoOf(error);
      if (errno === "ENOENT") resolve("absent");
      else if (errno === "ECONNREFUSED") resolve("dead");
      // Too busy to accept, or just shutting down: it is in use.
      else if (errno === "EAGAIN" || errno === "ECONNRESET") resolve("answers");
      else reject(new AegisError("io", `can't tell what is at ${path}: ${messageOf(error)}`));
    });
  });
}
