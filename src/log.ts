import { fstatSync, writeSync } from "node:fs";
import { createConsola } from "consola/core";
import type { Env } from "./paths.ts";
import { clip, jsonLine, safe } from "./terminal.ts";

/* The services' log, on standard error. Only daemon code imports this: commands print through Io. */

const LEVELS = { error: 0, warn: 1, info: 3, debug: 4 } as const;
type Level = keyof typeof LEVELS;
/** Line prefixes that systemd reads as priorities (sd-daemon(3), syslog(3)). */
const PRIORITIES = { error: "<3>", warn: "<4>", info: "<6>", debug: "<7>" } as const satisfies Record<
  Level,
  string
>;
type Fields = Readonly<Record<string, string | number | boolean | null>>;

/** Longest message and longest field, in characters. */
const MAX_MESSAGE = 2000;
const MAX_FIELD = 500;

/** At most this many lines with the same message per time span; debug lines are not limited. */
const REPEATS = 50;
const REPEATS_MS = 10_000;

/** Variables whose values are secret. Very short values are ignored: masking them would blot out ordinary words. */
const SECRET = /SECRET|PASSPHRASE|PASSWORD|API_KEY|TOKEN/;
const SHORTEST_SECRET = 8;

/** Messages and fields may hold untrusted text, but never secrets. */
export type Log = Record<Level, (message: string, fields?: Fields) => void>;

/**
 * The log configured by the environment: `AEGIS_LOG`, else `RUST_LOG`, is the lowest level shown (default info);
 * `AEGIS_LOG_FORMAT=json` writes each line as a JSON object. Lines to the journal begin with their priority. Lines are
 * written at once; a message that repeats too often is dropped, and the next line with it gives the number dropped
 * (`left_out`). A failed write does not stop the service.
 */
export function openLog(env: Env, write: (line: string) => void = writeStderr): Log {
  const journal = isJournal(env.JOURNAL_STREAM);
  const format = env.AEGIS_LOG_FORMAT === "json" ? objectLine : journal ? shortLine : plainLine;
  const mask = maskOf(env);
  const repeats = new Repeats();
  const consola = createConsola({
    level: LEVELS[levelOf(env)],
    // consola's own throttling drops lines that repeat within a second.
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
  // `raw`, so that consola doesn't take a message for one of its own log objects.
  const logger =
    (level: Level) =>
    (message: string, fields: Fields = {}) =>
      consola[level].raw(mask({ message }).message, fields);
  return { error: logger("error"), warn: logger("warn"), info: logger("info"), debug: logger("debug") };
}

/**
 * Whether standard error is the journal: systemd sets $JOURNAL_STREAM to its device and inode (systemd.exec(5)).
 * Comparing them detects a variable inherited by a child with another standard error.
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

/** Masks the values of secret variables. A last resort: nothing should log them. */
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

/** Counts lines by message. Messages are fixed texts of the program; what varies is in the fields. */
class Repeats {
  readonly #counts = new Map<string, { since: number; lines: number }>();

  /** The number of lines with this message dropped since the last one written; null if this one is to be dropped. */
  leftOutBefore(message: string, now: number): number | null {
    const count = this.#counts.get(message);
    if (count !== undefined && now - count.since < REPEATS_MS) {
      count.lines++;
      return count.lines > REPEATS ? null : 0;
    }
    // Bounds memory in case messages do vary.
    if (this.#counts.size > 1000) this.#counts.clear();
    this.#counts.set(message, { since: now, lines: 1 });
    return Math.max(0, (count?.lines ?? 0) - REPEATS);
  }
}

/** The configured level. RUST_LOG may also list `target=level` (env_logger's syntax); only a bare level counts. */
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

/** {@link plainLine} without the time, which the journal records. */
function shortLine(level: string, _: Date, message: string, fields: Fields): string {
  const pairs = Object.entries(fields).map(([key, value]) => {
    const text = safe(clip(String(value), MAX_FIELD));
    return `${key}=${/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)}`;
  });
  return [level, safe(clip(message, MAX_MESSAGE)), ...pairs].join(" ");
}

/** A JSON object. The text is kept; unsafe characters become JSON escapes. */
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
    // A closed pipe or a full disk must not stop the service.
  }
}
