import type { Socket } from "node:net";
import { sha256Hex } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import type { Log } from "./log.ts";
import { type Peer, peerIsGone } from "./sys-ffi.ts";
import { type Call, encodeMessage, MAX_MESSAGE, MessageDecoder, parseCall, VarlinkError } from "./wire.ts";
import { type ByteBudget, LEFT_BEHIND, sweepAfter } from "./wire-budget.ts";
import { type Interface, refusalReply } from "./wire-service.ts";

/** What a client may send ahead of its answers: whole calls, and bytes while a call is being answered. */
const AHEAD_CALLS = 64;
const AHEAD_BYTES = 64 * 1024;

/** So much a connection may hold whatever others do: large requests can't keep small ones out. */
const ALWAYS_BYTES = 64 * 1024;

/** How often a client that sends no more is looked at: whether it still reads. */
const GONE_MS = 1000;

/** Who a client is, as the kernel says. */
type Credentials = Omit<Peer, "groups">;

/** What a service puts up with. Times in milliseconds. */
export interface ServerLimits {
  /** Connections at a time, from everybody, and from one uid (root is no exception). */
  clients: number;
  clientsPerUid: number;
  /** A complete request must be there after this time, counted from the connection or the last answer. */
  requestMs: number;
  /** Answers a client has not read, in bytes; beyond that it is dropped. */
  unreadBytes: number;
  /** Connections, and time, spent on letting refused clients read why. */
  lingering: number;
  lingerMs: number;
}

/** A call that is being answered. */
interface Work {
  /** The client is gone: nothing more is sent. */
  stop(): void;
  /** Its connection does not count towards those of its uid: something else bounds this work. */
  apart: boolean;
}

/** Where a call's answers go. */
interface Answer {
  send(reply: object): void;
  /** Called once, after the last reply, if `stop` was not called before; never before `start` has returned. */
  done(): void;
}

/** What is served, behind the same listening, limits and framing. */
export interface Service {
  /** What it is called in messages: `the executor`. */
  title: string;
  interface: Interface;
  /**
   * Begins to answer a call; null where the answer has been sent already. What it throws is the answer, and a refusal.
   */
  start(call: Call, caller: Credentials, answer: Answer): Work | null;
  /** Hears of each refusal. `request_sha256` is of the plan where there is one, else of the request; null if unknown. */
  refused(refusal: { code: string; uid: number; request_sha256: string | null }): void;
}

/** What all connections of a service share. */
export interface Desk {
  service: Service;
  limits: ServerLimits;
  /** Room for requests that nobody has begun to answer. */
  budget: ByteBudget;
  log: Log;
}

/** A connection that is being served. */
export interface Session {
  uid: number;
  /** It counts towards the connections of its uid. */
  counts(): boolean;
}

/**
 * Serves one admitted connection until it ends: one call after the other, in the order sent. A fault of framing or a
 * time limit ends it after the answer; a refused call does not. A client that shuts down its sending side still gets
 * its answers. `caller` is who the kernel says it is.
 */
export function serveClient(
  socket: Socket,
  caller: Credentials,
  { service, limits, budget, log }: Desk,
): Session {
  let decoder = new MessageDecoder(MAX_MESSAGE);
  const hold = budget.hold(caller.uid);
  const waiting: string[] = [];
  /** A fault in the stream, answered after the calls before it. */
  let fault: unknown = null;
  let inputEnded = false;
  let calls = 0;
  let active: Work | null = null;
  let over = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let goneTimer: ReturnType<typeof setTimeout> | undefined;

  const textAhead = () => waiting.reduce((sum, text) => sum + text.length, 0);
  const countBytes = () => hold.set(Math.max(0, decoder.held + textAhead() - ALWAYS_BYTES));

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
    service.refused({ code, uid: caller.uid, request_sha256 });
    if (answer) send(refusalReply(error, service.interface));
  };

  /** Stops all work for this connection. */
  const end = () => {
    over = true;
    clearTimeout(timer);
    clearTimeout(goneTimer);
    waiting.length = 0;
    decoder = new MessageDecoder(MAX_MESSAGE);
    hold.set(0);
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

  const answer = (text: string) => {
    let call: Call;
    try {
      call = parseCall(text);
    } catch (error) {
      refuse(error, text, true);
      hangUp();
      return;
    }
    const done = () => {
      active = null;
      next();
    };
    try {
      calls++;
      active = service.start(call, caller, { send: call.oneway ? () => {} : send, done });
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
      countBytes();
      sweepAfter(text.length);
      answer(text);
      sweepAfter(text.length * LEFT_BEHIND);
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

  /** The end of what a client sends looks the same whether it still reads or has hung up: the kernel knows. */
  const lookIfGone = () => {
    if (over) return;
    if (!peerIsGone(socket)) {
      goneTimer = setTimeout(lookIfGone, GONE_MS);
      return;
    }
    socket.destroy();
    end();
  };

  socket.on("data", (chunk: Buffer) => {
    sweepAfter(chunk.length);
    if (over || fault !== null) return;
    try {
      for (const text of decoder.push(chunk)) {
        if (waiting.length >= AHEAD_CALLS)
          throw new AegisError("busy", "too many calls sent ahead", "Read the answers.");
        waiting.push(text);
      }
      countBytes();
    } catch (error) {
      fault = error;
      decoder = new MessageDecoder(MAX_MESSAGE);
    }
    if (active !== null && decoder.pending + textAhead() > AHEAD_BYTES) socket.pause();
    // A mere piece of a message does not prolong the time for the whole of it.
    if (waiting.length > 0 || fault !== null) next();
  });
  socket.on("end", () => {
    inputEnded = true;
    if (decoder.pending > 0) fault ??= new AegisError("protocol", "the request ends before its NUL byte");
    if (!over && active === null) next();
    lookIfGone();
  });
  socket.on("close", end);
  timer = setTimeout(late, limits.requestMs);
  return { uid: caller.uid, counts: () => active?.apart !== true };
}
