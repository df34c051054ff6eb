import { connect } from "node:net";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { encodeMessage, MAX_MESSAGE, MessageDecoder, parseReply, type Reply } from "./varlink.ts";

/** Why a call got no last reply: `connect` means that nothing was sent. */
export interface CallFailure {
  stage: "connect" | "stream";
  /** `ENOENT`, `EACCES`, …; empty where it is no system error. */
  errno: string;
  error: AegisError;
}

export interface CallHandlers {
  /** One reply; no other call of a handler follows the one that does not continue. */
  onReply(reply: Reply): void;
  /** The call has ended without its last reply. Called once, never after that reply. */
  onFailure(failure: CallFailure): void;
}

/**
 * Makes one varlink call on a connection of its own. `close` ends it; no handler is called afterwards. What a handler
 * throws counts as a failure of the stream.
 */
export function openCall(
  path: string,
  call: { method: string; parameters: object; more?: boolean },
  handlers: CallHandlers,
): { close(): void } {
  const decoder = new MessageDecoder(MAX_MESSAGE);
  let stage: CallFailure["stage"] = "connect";
  let over = false;
  const socket = connect({ path });
  const close = () => {
    over = true;
    socket.destroy();
  };
  const fail = (error: unknown) => {
    if (over) return;
    close();
    if (error instanceof AegisError) handlers.onFailure({ stage, errno: "", error });
    else
      handlers.onFailure({
        stage,
        errno: errnoOf(error),
        error: new AegisError("unavailable", messageOf(error)),
      });
  };
  socket.on("connect", () => {
    stage = "stream";
    socket.write(encodeMessage(call));
  });
  socket.on("data", (chunk: Buffer) => {
    try {
      for (const text of decoder.push(chunk)) {
        if (over) return;
        const reply = parseReply(text);
        handlers.onReply(reply);
        if (!reply.continues) close();
      }
    } catch (error) {
      fail(error);
    }
  });
  socket.on("error", fail);
  socket.on("close", () => fail(new AegisError("protocol", "the connection ended before the answer")));
  return { close };
}
