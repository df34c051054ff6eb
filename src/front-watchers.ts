import { type FSWatcher, watch } from "node:fs";
import { join } from "node:path";
import { AegisError, messageOf } from "./errors.ts";
import type { Log } from "./log.ts";
import { REQUESTS_STATE_FILE } from "./paths.ts";
import { readText } from "./sys-files.ts";
import { slots } from "./wire-budget.ts";
import type { FrontLimits } from "./wire-limits.ts";

/*
 * Clients that wait for a request, for hours perhaps. The front answers them by itself, from a file that the runner replaces
 * whenever a request changes, so that waiting holds no process of root's. It has numbers and states only; a client
 * that learns of a change asks for the rest.
 */

/** A replacement is several events of the directory. */
const QUIET_MS = 10;

interface Watcher {
  number: number | null;
  send(reply: object): void;
}

export interface Watchers {
  /**
   * Sends the states now, then every change, until `stop`.
   * @throws AegisError `busy`
   */
  watch(uid: number, watcher: Watcher): { stop(): void };
  close(): void;
}

/** `directory` is where the runner writes the states; it has to exist once somebody waits. */
export function requestWatchers(directory: string, limits: FrontLimits, log: Log): Watchers {
  const places = slots(limits.watchers, () => limits.watchersPerUid);
  const watchers = new Set<Watcher>();
  let known = new Map<number, string>();
  let events: FSWatcher | null = null;
  let quiet: ReturnType<typeof setTimeout> | undefined;
  let alive: ReturnType<typeof setInterval> | undefined;

  /** Reads the states, and tells those who are there already what has changed. */
  const look = () => {
    const now = readStates(directory);
    const changed = [...now].filter(([number, line]) => known.get(number) !== line);
    known = now;
    for (const { number, send } of watchers)
      for (const [changedNumber, line] of changed)
        if (number === null || number === changedNumber) send(stateReply(line));
  };
  const onEvent = () => {
    clearTimeout(quiet);
    quiet = setTimeout(look, QUIET_MS);
  };
  const start = () => {
    alive = setInterval(() => {
      // In case an event was missed, for example while the directory was mounted anew.
      look();
      for (const { send } of watchers) send(reply({ kind: "alive" }));
    }, limits.aliveMs);
    try {
      events = watch(directory, onEvent);
      events.on("error", (error) =>
        log.warn("changes of requests are noticed late", { problem: error.message }),
      );
    } catch (error) {
      log.warn("changes of requests are noticed late", { problem: messageOf(error) });
    }
  };
  const stop = () => {
    clearTimeout(quiet);
    clearInterval(alive);
    events?.close();
    events = null;
  };

  return {
    watch(uid, watcher) {
      const leave = places.take(uid);
      if (leave === null) throw tooManyWait(limits);
      if (watchers.size === 0) start();
      look();
      watchers.add(watcher);
      const { number, send } = watcher;
      const states = number === null ? [...known.values()] : [known.get(number) ?? null];
      for (const line of states) send(line === null ? reply({ kind: "none", number }) : stateReply(line));
      send(reply({ kind: "current" }));
      return {
        stop() {
          if (!watchers.delete(watcher)) return;
          leave();
          if (watchers.size === 0) stop();
        },
      };
    },
    close: stop,
  };
}

function tooManyWait({ watchers, watchersPerUid }: FrontLimits): AegisError {
  const why = `too many clients are waiting for requests: at most ${watchers} in total and ${watchersPerUid} per user`;
  return new AegisError("busy", why, "Requests continue unwatched. See them: aegis sign inbox");
}

/** Lines by their number: `7 2 approved`. What has another form is left out. */
function readStates(directory: string): Map<number, string> {
  const lines = (readText(join(directory, REQUESTS_STATE_FILE)) ?? "").split("\n");
  return new Map(
    lines.filter((line) => /^\d+ \d+ [a-z]+$/.test(line)).map((line) => [Number.parseInt(line, 10), line]),
  );
}

function stateReply(line: string): object {
  const [number, revision, state] = line.split(" ");
  return reply({ kind: "state", number: Number(number), revision: Number(revision), state });
}

function reply(event: object): object {
  return { parameters: { event }, continues: true };
}
