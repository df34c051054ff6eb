import { statSync } from "node:fs";
import { join } from "node:path";
import { readDocument } from "./doc.ts";
import { readResult } from "./doc-result.ts";
import { MAX_DOCUMENT_BYTES } from "./doc-store.ts";
import { messageOf } from "./errors.ts";
import { listRequests } from "./front-requests.ts";
import type { TrustedKey } from "./key-trusted-keys.ts";
import { type Env, SYSTEM, userPaths } from "./paths.ts";
import { namesIn, readFileLimited } from "./sys-files.ts";

/*
 * What is still open and rests on a trusted key, as far as this host knows: requests that wait, and signed plans and approvals in
 * the stores of its accounts that have not expired. Files that were handed over elsewhere, and stores that this user may not read, are not
 * known.
 */

export interface KeyUse {
  what: "request" | "execution plan" | "approval";
  /** Number of a request, else the document's id. */
  id: string;
  /** Ids of the keys that signed it or its approvals, as it says. */
  key_ids: string[];
  /** When it expires by itself. */
  until: string;
}

export interface KeyUses {
  uses: KeyUse[];
  /** What could not be looked at, and why. */
  unknown: string[];
}

/** Signed documents live 24 hours at most; older files are not even opened. */
const OLDEST_MS = 25 * 60 * 60_000;
/** Files that are read in one directory, and how long the executor may take to answer. */
const MOST_FILES = 1000;
const ANSWER_MS = 5000;

/** Everything open that rests on a key. */
export async function openUses(env: Env, now: Date, passwd: string | null): Promise<KeyUses> {
  const stores = [...new Set([userPaths(env).data, ...homes(passwd)])];
  const signed = stores.flatMap((store) => [...executionsIn(store, now), ...approvalsIn(store, now)]);
  const uses = [...new Map(signed.map((use) => [`${use.what} ${use.id}`, use])).values()];
  try {
    const { requests } = await listRequests(SYSTEM.socket, {
      all: false,
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const asked = requests.map(({ number, approvals, expires_at }): KeyUse => {
      return {
        what: "request",
        id: String(number),
        key_ids: approvals.map(({ key_id }) => key_id),
        until: expires_at,
      };
    });
    return { uses: [...asked, ...uses], unknown: [] };
  } catch (error) {
    return { uses, unknown: [`requests: ${messageOf(error)}`] };
  }
}

/** The uses that rest on this key. */
export function usesOf({ uses }: KeyUses, key: TrustedKey): KeyUse[] {
  return uses.filter(({ key_ids }) => key_ids.some((id) => key.ids.includes(id)));
}

/** Directories of Aegis in the homes of people's accounts, by passwd(5). */
function homes(passwd: string | null): string[] {
  return (passwd ?? "").split("\n").flatMap((line) => {
    const [, , uid, , , home = ""] = line.split(":");
    const isPerson = uid === "0" || (Number(uid) >= 1000 && Number(uid) < 65534);
    return isPerson && home.startsWith("/") ? [join(home, ".local/share/aegis")] : [];
  });
}

function executionsIn(store: string, now: Date): KeyUse[] {
  return recentTexts(join(store, "executions"), now).flatMap((text) => {
    const execution = parsed("execution", text);
    if (execution === null || Date.parse(execution.expires_at) <= now.getTime()) return [];
    const { execution_plan_id: id, expires_at: until, approvals, signature } = execution;
    const key_ids = [signature, ...approvals.map((approval) => approval.signature)].map((one) => one.key_id);
    return hasRun(id) ? [] : [{ what: "execution plan" as const, id, key_ids, until }];
  });
}

function approvalsIn(store: string, now: Date): KeyUse[] {
  return recentTexts(join(store, "approvals"), now).flatMap((text) => {
    const approval = parsed("approval", text);
    if (approval === null || Date.parse(approval.expires_at) <= now.getTime()) return [];
    const { approval_id: id, expires_at: until, signature } = approval;
    return [{ what: "approval" as const, id, key_ids: [signature.key_id], until }];
  });
}

/** Null for a file that is no such document: it could not be used either. */
function parsed<K extends "execution" | "approval">(kind: K, text: string) {
  try {
    return readDocument(kind, text).document;
  } catch {
    return null;
  }
}

/** The contents of recently written JSON files. */
function recentTexts(directory: string, now: Date): string[] {
  const names = namesIn(directory).filter((name) => name.endsWith(".json"));
  return names.slice(0, MOST_FILES).flatMap((name) => {
    const path = join(directory, name);
    try {
      if (now.getTime() - statSync(path).mtimeMs > OLDEST_MS) return [];
      return [readFileLimited(path, MAX_DOCUMENT_BYTES).toString("utf8")];
    } catch {
      return [];
    }
  });
}

/** Whether the executor has an outcome. */
function hasRun(id: string): boolean {
  try {
    return readResult(id) !== null;
  } catch {
    return false;
  }
}
