import { closeSync, constants, lstatSync, openSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { tryFlock } from "./sys-ffi.ts";

/**
 * Claims the path of a unix socket for this process: no other daemon may be claiming it or answering on it, and what a
 * dead one left there is removed. The claim is a lock on a file beside it, so that two that start at once can't both see
 * a dead socket and one remove the other's new one. The directory must be writable by its owner only.
 * @throws AegisError `exists` when somebody has the path, `io`
 */
export async function claimSocketPath(path: string): Promise<{ release(): void }> {
  const taken = new AegisError(
    "exists",
    `another daemon has ${path}`,
    "Stop that one first, or give this one a path of its own with --socket.",
  );
  const fd = openLock(`${path}.lock`);
  try {
    if (!tryFlock(fd)) throw taken;
    switch (await probe(path)) {
      case "answers":
        throw taken;
      case "dead":
        if (!lstatSync(path).isSocket()) throw new AegisError("exists", `${path} is there and is no socket`);
        unlinkSync(path);
        break;
      case "absent":
        break;
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  // The lock file stays: removing it would let a third process lock a new one while a second waits for this one.
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
      // Too busy to take us, or just ending: somebody has it.
      else if (errno === "EAGAIN" || errno === "ECONNRESET") resolve("answers");
      else reject(new AegisError("io", `can't tell what is at ${path}: ${messageOf(error)}`));
    });
  });
}
