import type { Socket } from "node:net";
import { sha256Hex } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import type { FrontLimits } from "./front-limits.ts";
import { relay } from "./front-relay.ts";
import type { Log } from "./log.ts";
import type { Refusals } from "./refusals.ts";
import type { UsedPlans } from "./used-plans.ts";
import { type Call, encodeMessage, MAX_MESSAGE, MessageDecoder, parseCall, VarlinkError } from "./varlink.ts";
import { type Caller, type ExecutorCall, errorReply, readCall, serviceError } from "./varlink-interface.ts";

/** What a client may send ahead of its answers: whole calls, and bytes while a call is being answered. */
const AHEAD_CALLS = 64;
const AHEAD_BYTES = 64 * 1024;

/** What all connections of a front share. */
export interface Desk {
  limits: FrontLimits;
  runnerPath: string;
  verify(plan: string): void;
  log: Log;
  refusals: Refusals;
  usedPlans: UsedPlans;
  /** Connections whose Apply is at the runner now. */
  applies: Set<Socket>;
}

/**
 * Serves one admitted connection until it ends: one call after the other, in the order sent. A fault of framing or a
 * time limit ends it after the answer; a refused call does not. A client that shuts down its sending side still gets
 * its answers. `caller` is who the kernel says it is.
 */
export function serveClient(socket: Socket, caller: Caller, desk: Desk): void {
  const { limits, log } = desk;
  const decoder = new MessageDecoder(MAX_MESSAGE);
  const waiting: string[] = [];
  /** A fault in the stream, answered after the calls before it. */
  let fault: unknown = null;
  let inputEnded = false;
  let calls = 0;
  let active: { stop(): void } | null = null;
  let over = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const send = (reply: object) => {
    if (over) return;
    socket.write(encodeMessage(reply));
    if (socket.writableLength <= limits.unreadBytes) return;
    log.warn("a client does not read its answers and is dropped", { uid: caller.uid, pid: caller.pid });
    socket.destroy();
    end();
  };

  const refuse = (error: unknown, subject: string | null, answer: boolean) => {
    const code =
      error instanceof AegisError ? error.code : error instanceof VarlinkError ? "protocol" : "internal";
    if (code === "internal") log.error("a request failed", { problem: messageOf(error) });
    log.debug("request refused", { code, uid: caller.uid, pid: caller.pid, problem: messageOf(error) });
    const request_sha256 = subject === null ? null : sha256Hex(subject);
    desk.refusals.add({ code, uid: caller.uid, request_sha256, execution_id: null });
    if (answer) send(errorReply(error));
  };

  /** Stops all work for this connection. */
  const end = () => {
    over = true;
    clearTimeout(timer);
    waiting.length = 0;
    active?.stop();
    active = null;
  };

  /** Hangs up once the client has had time to read the last answer; what it still sends is thrown away. */
  const hangUp = () => {
    end();
    socket.resume();
    socket.end();
    timer = setTimeout(() => socket.destroy(), limits.lingerMs);
  };

  const late = () => {
    if (calls === 0 || decoder.pending > 0) {
      const why = `no complete request within ${limits.requestMs / 1000} s`;
      refuse(new AegisError("timeout", why, "Connect again and send the whole request."), null, true);
    }
    hangUp();
  };

  /** Hands a call to the runner, if it is fit for that. */
  const start = (request: ExecutorCall, call: Call): { stop(): void } => {
    if (request.method === "Report") throw serviceError("MethodNotImplemented", { method: "Report" });
    if (request.method === "Apply") {
      desk.verify(request.parameters.plan);
      desk.usedPlans.check(request.parameters.plan);
      if (desk.applies.size >= limits.applies) {
        const why = `${limits.applies} executions are waiting already`;
        throw new AegisError("busy", why, "Try again when some have ended: aegis daemon status");
      }
    }
    const work = relay(request, caller, {
      runnerPath: desk.runnerPath,
      aliveMs: limits.aliveMs,
      log,
      more: call.more,
      send: call.oneway ? () => {} : send,
      refused: (error) => {
        if (request.method === "Apply") desk.usedPlans.learn(request.parameters.plan, error);
      },
      done: () => {
        desk.applies.delete(socket);
        active = null;
        next();
      },
    });
    if (request.method === "Apply") desk.applies.add(socket);
    return {
      stop: () => {
        desk.applies.delete(socket);
        work.stop();
      },
    };
  };

  const answer = (text: string) => {
    let call: Call;
    try {
      call = parseCall(text);
    } catch (error) {
      refuse(error, text, true);
      hangUp();
      return;
    }
    try {
      calls++;
      const request = readCall(call);
      if (!("answer" in request)) active = start(request, call);
      else if (!call.oneway) send({ parameters: request.answer });
    } catch (error) {
      const plan = call.parameters.plan;
      refuse(error, typeof plan === "string" ? plan : text, !call.oneway);
    }
  };

  /** Answers what has come in until a call takes time or nothing is left. */
  const next = () => {
    clearTimeout(timer);
    while (!over && active === null) {
      const text = waiting.shift();
      if (text === undefined) break;
      answer(text);
    }
    if (over || active !== null) return;
    if (fault !== null) refuse(fault, null, true);
    if (fault !== null || inputEnded) {
      hangUp();
      return;
    }
    timer = setTimeout(late, limits.requestMs);
    socket.resume();
  };

  socket.on("data", (chunk: Buffer) => {
    if (over || fault !== null) return;
    try {
      for (const text of decoder.push(chunk)) {
        if (waiting.length >= AHEAD_CALLS)
          throw new AegisError("busy", "too many calls sent ahead", "Read the answers.");
        waiting.push(text);
      }
    } catch (error) {
      fault = error;
    }
    if (active !== null && decoder.pending + waiting.reduce((n, text) => n + text.length, 0) > AHEAD_BYTES)
      socket.pause();
    // A mere piece of a message does not prolong the time for the whole of it.
    if (waiting.length > 0 || fault !== null) next();
  });
  socket.on("end", () => {
    inputEnded = true;
    if (decoder.pending > 0) fault ??= new AegisError("protocol", "the request ends before its NUL byte");
    if (!over && active === null) next();
  });
  socket.on("close", end);
  timer = setTimeout(late, limits.requestMs);
}
