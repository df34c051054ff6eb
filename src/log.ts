import { fstatSync, writeSync } from "node:fs";
import { createConsola } from "consola/core";
import type { Env } from "./paths.ts";
import { clip, jsonLine, safe } from "./terminal.ts";

/* The log of the services, on standard error. Only daemon code imports this: a command prints through Io. */

const LEVELS = { error: 0, warn: 1, info: 3, debug: 4 } as const;
type Level = keyof typeof LEVELS;
/** What systemd takes the beginning of a line for (sd-daemon(3), syslog(3)). */
const PRIORITIES = { error: "<3>", warn: "<4>", info: "<6>", debug: "<7>" } as const satisfies Record<
  Level,
  string
>;
type Fields = Readonly<Record<string, string | number | boolean | null>>;

/** Longest message and longest field, in characters. */
const MAX_MESSAGE = 2000;
const MAX_FIELD = 500;

/** So many lines with one message, but for those of debug, are written in so much time. */
const REPEATS = 50;
const REPEATS_MS = 10_000;

/** Variables whose values are secret. Shorter values are none, and would blot out ordinary words. */
const SECRET = /SECRET|PASSPHRASE|PASSWORD|API_KEY|TOKEN/;
const SHORTEST_SECRET = 8;

/** Text from outside may go into messages and fields as it is; secrets never. */
export type Log = Record<Level, (message: string, fields?: Fields) => void>;

/**
 * The log that the environment asks for: `AEGIS_LOG` or else `RUST_LOG` is the least level shown (default info), and
 * `AEGIS_LOG_FORMAT=json` makes each line one JSON object. Where standard error is the journal, each line begins with its
 * priority. A line is written at once; of a message that comes again and again some are left out, and how many is said
 * with the next one. A log that can't be written to does not stop a service.
 */
export function openLog(env: Env, write: (line: string) => void = writeStderr): Log {
  const journal = isJournal(env.JOURNAL_STREAM);
  const format = env.AEGIS_LOG_FORMAT === "json" ? objectLine : journal ? shortLine : plainLine;
  const mask = maskOf(env);
  const repeats = new Repeats();
  const consola = createConsola({
    level: LEVELS[levelOf(env)],
    // By itself consola leaves out lines that repeat within a second.
    throttle: Number.NEGATIVE_INFINITY,
    reporters: [
      {
        log({ type, date, args: [message, fields] }) {
          const level = type as Level;
          const left_out = level === "debug" ? 0 : repeats.leftOutBefore(message, date.getTime());
          if (left_out === null) return;
          const all = mask(left_out === 0 ? fields : { ...fields, left_out });
          write(`${journal ? PRIORITIES[level] : ""}${format(level, date, message, all)}\n`);
        },
      },
    ],
  });
  // `raw`, since a message must not be taken for one of consola's own log objects.
  const logger =
    (level: Level) =>
    (message: string, fields: Fields = {}) =>
      consola[level].raw(mask({ message }).message, fields);
  return { error: logger("error"), warn: logger("warn"), info: logger("info"), debug: logger("debug") };
}

/**
 * Whether standard error is what systemd says that it connected to the journal (systemd.exec(5), $JOURNAL_STREAM); a service
 * that passes the variable on to a child with another standard error is not taken in.
 */
function isJournal(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(2, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Takes the values of secret variables out of texts: a last resort, nothing should put them there. */
function maskOf(env: Env): <F extends Fields>(fields: F) => F {
  const secrets = Object.entries(env).flatMap(([name, value = ""]) =>
    SECRET.test(name) && value.length >= SHORTEST_SECRET ? [value] : [],
  );
  if (secrets.length === 0) return (fields) => fields;
  const masked = (text: string) =>
    secrets.reduce((rest, secret) => rest.replaceAll(secret, "[secret]"), text);
  return <F extends Fields>(fields: F) => {
    const entries = Object.entries(fields).map(([key, value]) => [
      key,
      typeof value === "string" ? masked(value) : value,
    ]);
    return Object.fromEntries(entries) as F;
  };
}

/** Counts lines by their message. Messages are the program's own words; the rest of a line is in its fields. */
class Repeats {
  readonly #counts = new Map<string, { since: number; lines: number }>();

  /** How many lines with this message were left out since the last one; null for one that is left out itself. */
  leftOutBefore(message: string, now: number): number | null {
    const count = this.#counts.get(message);
    if (count !== undefined && now - count.since < REPEATS_MS) {
      count.lines++;
      return count.lines > REPEATS ? null : 0;
    }
    // A bound for messages that are not the program's own after all.
    if (this.#counts.size > 1000) this.#counts.clear();
    this.#counts.set(message, { since: now, lines: 1 });
    return Math.max(0, (count?.lines ?? 0) - REPEATS);
  }
}

/** The level asked for. RUST_LOG may list `target=level` too (env_logger's syntax): only a level by itself counts. */
function levelOf(env: Env): Level {
  const wanted = (env.AEGIS_LOG || env.RUST_LOG || "").toLowerCase().split(",");
  for (const word of wanted.map((w) => w.trim())) {
    if (Object.hasOwn(LEVELS, word)) return word as Level;
    if (word === "trace") return "debug";
    if (word === "off") return "error";
  }
  return "info";
}

/** `2026-01-31T12:00:00.000Z warn a message key=value other="two words"` */
function plainLine(level: string, date: Date, message: string, fields: Fields): string {
  return `${date.toISOString()} ${shortLine(level, date, message, fields)}`;
}

/** The same without the time, which the journal has. */
function shortLine(level: string, _: Date, message: string, fields: Fields): string {
  const pairs = Object.entries(fields).map(([key, value]) => {
    const text = safe(clip(String(value), MAX_FIELD));
    return `${key}=${/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)}`;
  });
  return [level, safe(clip(message, MAX_MESSAGE)), ...pairs].join(" ");
}

/** One object; the same text as given, with JSON's own escapes for what a terminal must not see. */
function objectLine(level: string, timestamp: Date, message: string, fields: Fields): string {
  const clipped = Object.entries(fields).map(([key, value]) => [
    key,
    typeof value === "string" ? clip(value, MAX_FIELD) : value,
  ]);
  const line = { ...Object.fromEntries(clipped), timestamp, level, message: clip(message, MAX_MESSAGE) };
  return jsonLine(line);
}

function writeStderr(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // Nobody reads it, or the disk is full: the service goes on.
  }
}
