import { join } from "node:path";
import { madeSubject } from "./apt-argv.ts";
import { sha256Hex } from "./canonical.ts";
import { isFetched, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import { SYSTEM } from "./paths.ts";

/*
 * Since when this host's sources have offered each package file. The monitor writes the record as root, and everybody may read it, so
 * that a user's plan and the executor's say the same. The first line is its head; one line of fixed length follows for each file, sorted:
 *
 *     aegis-first-seen 2 2026-11-30T19:41:00.000Z <SHA-256 of what was looked at>
 *     0011223344556677889900aabbccddee 2026-11-23
 *
 * The key is the beginning (128 bits) of the SHA-256 of `name:arch=version <SHA-256 of the .deb>`. So other bytes under the same version
 * are a new file, and so are bytes that a source has listed for long under another name, where nobody looked.
 */

/** World-readable, in a directory that only root can write. */
export const FIRST_SEEN = join(SYSTEM.state, "first-seen");

const KEY = 32;
/** Key, space, day, newline. */
const LINE = KEY + 12;
const HEAD = /^aegis-first-seen 2 (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z) ([0-9a-f]{64})$/;
const ENTRY = /^([0-9a-f]{32}) (\d{4}-\d{2}-\d{2})$/;

/** What the record says; all of it is null or empty for a record that is missing or malformed. */
export class FirstSeen {
  /** When the sources were last looked at, RFC 3339. Null without a usable record. */
  readonly lookedAt: string | null;
  /** Digest of what was looked at then. */
  readonly of: string | null;
  readonly #text: string;
  readonly #start: number;

  /** Never throws. */
  constructor(text: string | null) {
    const end = text?.indexOf("\n") ?? -1;
    const [, at, of] = HEAD.exec(text?.slice(0, Math.max(0, end)) ?? "") ?? [];
    const isWhole = text !== null && at !== undefined && (text.length - end - 1) % LINE === 0;
    this.lookedAt = isWhole ? at : null;
    this.of = isWhole ? (of ?? null) : null;
    this.#text = isWhole ? text : "";
    this.#start = isWhole ? end + 1 : 0;
  }

  /** The day, `YYYY-MM-DD` in UTC; null for a file that the record doesn't have. */
  dayOf(file: string): string | null {
    const wanted = keyOf(file);
    let [low, high] = [0, (this.#text.length - this.#start) / LINE];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const [, key, day] = ENTRY.exec(this.#line(middle)) ?? [];
      if (key === undefined || day === undefined) return null;
      if (key === wanted) return day;
      if (key < wanted) low = middle + 1;
      else high = middle;
    }
    return null;
  }

  /** Key → day. */
  entries(): Map<string, string> {
    const found = new Map<string, string>();
    for (let n = 0; n < (this.#text.length - this.#start) / LINE; n++) {
      const [, key, day] = ENTRY.exec(this.#line(n)) ?? [];
      if (key !== undefined && day !== undefined) found.set(key, day);
    }
    return found;
  }

  #line(n: number): string {
    const at = this.#start + n * LINE;
    return this.#text.slice(at, at + LINE - 1);
  }
}

/** The key in the record of a file, `name:arch=version <SHA-256>`. */
export function keyOf(file: string): string {
  return sha256Hex(file).slice(0, KEY);
}

/** The record's text. `entries`: key → day. */
export function renderFirstSeen(lookedAt: string, of: string, entries: ReadonlyMap<string, string>): string {
  const lines = [...entries].map(([key, day]) => `${key} ${day}\n`).sort();
  return `aegis-first-seen 2 ${lookedAt} ${of}\n${lines.join("")}`;
}

/** The days of a transaction's package files, as far as the record has them: `name:arch=version` → day. Left out if empty. */
export function firstSeenOf(
  transaction: readonly TransactionEntry[],
  text: string | null,
): Pick<OperationPlan, "first_seen"> {
  const record = new FirstSeen(text);
  const days = transaction.filter(isFetched).flatMap((entry) => {
    const subject = madeSubject(entry);
    const day = entry.sha256 === null ? null : record.dayOf(`${subject} ${entry.sha256}`);
    return day === null ? [] : [[subject, day] as const];
  });
  return days.length === 0 ? {} : { first_seen: Object.fromEntries(days) };
}
