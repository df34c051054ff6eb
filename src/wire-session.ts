import type { Socket } from "node:net";
import { sha256Hex } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import type { Log } from "./log.ts";
import { type Peer, peerIsGone } from "./sys-ffi.ts";
import { type Call, encodeMessage, MAX_MESSAGE, MessageDecoder, parseCall, VarlinkError } from "./wire.ts";
import { type ByteBudget, GARBAGE_PER_BYTE, sweepAfter } from "./wire-budget.ts";
import { type Interface, refusalReply } from "./wire-service.ts";

/** What a client may send before earlier calls are answered: complete calls, and bytes while a call is being answered. */
const AHEAD_CALLS = 64;
const AHEAD_BYTES = 64 * 1024;

/** Bytes a connection may always hold, so that large requests can't lock out small ones. */
const ALWAYS_BYTES = 64 * 1024;

/** Interval for checking whether a client has taken a large answer. */
const TAKEN_MS = 20;

/** Interval for checking whether a client that stopped sending still reads. */
const GONE_MS = 1000;

/** A client's identity, from the kernel. */
type Credentials = Omit<Peer, "groups">;

/** Limits of a service. Times in milliseconds. */
export interface ServerLimits {
  /** Connections at a time: in total, and per uid (root included). */
  clients: number;
  clientsPerUid: number;
  /** Deadline for a complete request, counted from the connection or the last answer. */
  requestMs: number;
  /** Limit on unread answers, in bytes; a client over it is dropped. */
  unreadBytes: number;
  /** Refused connections kept open, and for how long, so that clients can read why. */
  lingering: number;
  lingerMs: number;
}

/** A call being answered. */
interface Work {
  /** The client is gone: stop sending. */
  stop(): void;
  /** Its connection doesn't count towards its uid's limit: something else limits this work. */
  uncounted: boolean;
  /** Nor towards the limit on all connections. */
  apart?: boolean;
}

/** Sends the answers to a call. */
export interface Answer {
  send(reply: object): void;
  /** Called once after the last reply, unless `stop` was called; never before `start` has returned. */
  done(): void;
  /** Calls `then` once the client has taken everything that was sent, or has gone. */
  taken(then: () => void): void;
}

/** A service behind the common listening, limits and framing. */
export interface Service {
  /** Its name in messages: `the executor`. */
  title: string;
  interface: Interface;
  /**
   * Starts answering a call; null if the answer has already been sent. Errors thrown are sent as the answer and counted
   * as refusals.
   */
  start(call: Call, caller: Credentials, answer: Answer): Work | null;
  /**
   * Called for each refusal. `request_sha256` is the plan's digest if there is one, else the request's; null if
   * unknown.
   */
  refused(refusal: { code: string; uid: number; request_sha256: string | null }): void;
}

/** Shared by all connections of a service. */
export interface SessionContext {
  service: Service;
  limits: ServerLimits;
  /** Memory for requests not yet being answered. */
  budget: ByteBudget;
  log: Log;
}

/** A connection being served. */
export interface Session {
  uid: number;
  /** Whether it counts towards its uid's connections. */
  counts(): boolean;
  /** Whether it is limited apart from all others. */
  isApart(): boolean;
}

/**
 * Serves one admitted connection until it ends, one call at a time, in order. A framing error or a timeout ends it
 * after the answer; a refused call does not. A client that shuts down its sending side still gets its answers. `caller`
 * is its identity from the kernel.
 */
export function serveClient(
  socket: Socket,
  caller: Credentials,
  { service, limits, budget, log }: SessionContext,
): Session {
  let decoder = new MessageDecoder(MAX_MESSAGE);
  const hold = budget.hold(caller.uid);
  const waiting: string[] = [];
  /** An error in the stream, answered after the calls before it. */
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
    // One answer may be larger than the limit, so what counts is what was left unread before it.
    const unread = socket.writableLength;
    socket.write(encodeMessage(reply));
    if (unread <= limits.unreadBytes) return;
    log.warn("dropped a client that does not read its answers", { uid: caller.uid, pid: caller.pid });
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

  // Polls: a socket reports neither the last of several writes nor, below its high-water mark, that it was drained.
  const taken = (then: () => void) => {
    if (socket.destroyed || socket.writableLength === 0) then();
    else setTimeout(taken, TAKEN_MS, then);
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

  /** Closes the connection after giving the client time to read the last answer; further input is discarded. */
  const hangUp = () => {
    end();
    socket.resume();
    socket.end();
    timer = setTimeout(() => socket.destroy(), limits.lingerMs);
  };

  const onDeadline = () => {
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
      active = service.start(call, caller, {
        send: call.oneway ? () => {} : send,
        done,
        taken,
      });
      // A client that was dropped while the answer began.
      if (over) active?.stop();
    } catch (error) {
      const plan = call.parameters.plan;
      refuse(error, typeof plan === "string" ? plan : text, !call.oneway);
    }
  };

  /** Answers received calls until one takes time or none is left. */
  const next = () => {
    clearTimeout(timer);
    while (!over && active === null) {
      const text = waiting.shift();
      if (text === undefined) break;
      countBytes();
      sweepAfter(text.length);
      answer(text);
      sweepAfter(text.length * GARBAGE_PER_BYTE);
    }
    if (over || active !== null) return;
    if (fault !== null) refuse(fault, null, true);
    if (fault !== null || inputEnded) {
      hangUp();
      return;
    }
    timer = setTimeout(onDeadline, limits.requestMs);
    socket.resume();
  };

  /** End of input looks the same whether the client still reads or has closed the socket; the kernel knows. */
  const closeIfGone = () => {
    if (over) return;
    if (!peerIsGone(socket)) {
      goneTimer = setTimeout(closeIfGone, GONE_MS);
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
          throw new AegisError(
            "busy",
            "too many calls sent before reading the answers",
            "Read the answers first.",
          );
        waiting.push(text);
      }
      countBytes();
    } catch (error) {
      fault = error;
      decoder = new MessageDecoder(MAX_MESSAGE);
    }
    if (active !== null && decoder.pending + textAhead() > AHEAD_BYTES) socket.pause();
    // A partial message does not extend the deadline.
    if (waiting.length > 0 || fault !== null) next();
  });
  socket.on("end", () => {
    inputEnded = true;
    if (decoder.pending > 0) fault ??= new AegisError("protocol", "the request ended before its NUL byte");
    if (!over && active === null) next();
    closeIfGone();
  });
  socket.on("close", end);
  timer = setTimeout(onDeadline, limits.requestMs);
  return {
    uid: caller.uid,
    counts: () => active?.uncounted !== true,
    isApart: () => active?.apart === true,
  };
}
