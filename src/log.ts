import { writeSync } from "node:fs";
import { createConsola } from "consola/core";
import type { Env } from "./paths.ts";
import { clip, jsonLine, safe } from "./terminal.ts";

/* The log of the services, on standard error. Only daemon code imports this: a command prints through Io. */

const LEVELS = { error: 0, warn: 1, info: 3, debug: 4 } as const;
type Level = keyof typeof LEVELS;
type Fields = Readonly<Record<string, string | number | boolean | null>>;

/** Longest message and longest field, in characters. */
const MAX_MESSAGE = 2000;
const MAX_FIELD = 500;

/** Text from outside may go into messages and fields as it is; secrets never. */
export type Log = Record<Level, (message: string, fields?: Fields) => void>;

/**
 * The log that the environment asks for: `AEGIS_LOG` or else `RUST_LOG` is the least level shown (default info), and
 * `AEGIS_LOG_FORMAT=json` makes each line one JSON object. Every line is written at once; none is held back or left
 * out. A log that can't be written to does not stop a service.
 */
export function openLog(env: Env, write: (line: string) => void = writeStderr): Log {
  const format = env.AEGIS_LOG_FORMAT === "json" ? objectLine : plainLine;
  const consola = createConsola({
    level: LEVELS[levelOf(env)],
    // By itself consola leaves out lines that repeat within a second.
    throttle: Number.NEGATIVE_INFINITY,
    reporters: [{ log: ({ type, date, args }) => write(`${format(type, date, args[0], args[1])}\n`) }],
  });
  // `raw`, since a message must not be taken for one of consola's own log objects.
  const logger =
    (level: Level) =>
    (message: string, fields: Fields = {}) =>
      consola[level].raw(message, fields);
  return { error: logger("error"), warn: logger("warn"), info: logger("info"), debug: logger("debug") };
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
  const pairs = Object.entries(fields).map(([key, value]) => {
    const text = safe(clip(String(value), MAX_FIELD));
    return `${key}=${/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)}`;
  });
  return [date.toISOString(), level, safe(clip(message, MAX_MESSAGE)), ...pairs].join(" ");
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
