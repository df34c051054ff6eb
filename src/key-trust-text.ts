import { isDeepStrictEqual } from "node:util";
import { AegisError } from "./errors.ts";
import { type PublicKey, parsePublicKey } from "./key-file.ts";
import { parseSshKey } from "./key-sshsig.ts";
import { parseTrustedKeys, type TrustedKey } from "./key-trusted-keys.ts";
import { safe } from "./terminal.ts";

/*
 * trusted-keys.toml as text. People write comments into it and order it as they like, so a change edits the text and leaves every
 * other line as it is. The result is parsed again, and must be the keys from before with exactly the change that was meant.
 */

/**
 * The entry for a key. What is not known of it is a placeholder, with which the file is refused: an entry that is right by
 * accident would trust an approver's key to sign.
 */
export function entryText({ key_id, public_key_hex, name, role, break_glass }: PublicKey): string {
  return [
    "[[key]]",
    `id = ${quoted(key_id)}`,
    `name = ${quoted(name ?? "<owner>")}`,
    `public_key_hex = ${quoted(public_key_hex)}`,
    `role = ${role === undefined ? '"<role>"   # "execution" or "approval"; never both' : quoted(role)}`,
    ...(break_glass === true
      ? ["break_glass = true   # each use is logged and stays shown until it is acknowledged"]
      : []),
    "",
  ].join("\n");
}

/** A TOML basic string: JSON's escapes are TOML's, except that TOML wants DEL escaped too. */
function quoted(value: string): string {
  return JSON.stringify(value.toWellFormed()).replaceAll("\u007f", "\\u007f");
}

/** The entry for an approver's OpenSSH key, by the line of its .pub file. @throws AegisError `invalid_key` */
function sshEntryText(line: string, { name, verifyRequired }: SshOwner): string {
  return [
    "[[key]]",
    `id = ${quoted(parseSshKey(line).fingerprint)}`,
    `name = ${quoted(name)}`,
    `ssh_public_key = ${quoted(line)}`,
    'role = "approval"',
    ...(verifyRequired ? ["verify_required = true"] : []),
    "",
  ].join("\n");
}

/** What the .pub file of an OpenSSH key doesn't say. */
export interface SshOwner {
  name: string;
  verifyRequired: boolean;
}

/**
 * The one entry in `given`: an entry as `keygen` prints it, or a .pub file, of `keygen` or, with its owner, of ssh-keygen.
 * @throws AegisError `usage`, and as {@link parseTrustedKeys}
 */
export function oneEntry(
  given: string,
  source: string,
  owner: SshOwner | null = null,
): { text: string; key: TrustedKey } {
  if (owner === null && /^(?:sk-)?ssh-/.test(given)) {
    throw new AegisError(
      "usage",
      `${source} is an OpenSSH key, which doesn't say whose it is`,
      "Add --name <owner>; and --verify-required if its security key must check a PIN or a fingerprint.",
    );
  }
  const file = owner === null ? parsePublicKey(given) : null;
  if (file !== null && (file.name === undefined || file.role === undefined)) {
    const hint = "Make it with --role and --name, or complete the entry that `aegis sign keygen` printed.";
    throw new AegisError("usage", `${source} does not say whose key it is, or what it is for`, hint);
  }
  const entry =
    owner !== null ? sshEntryText(given.trimEnd(), owner) : file === null ? given : entryText(file);
  const text = `${entry.trim()}\n`;
  const [key, ...more] = parseTrustedKeys(text, source);
  if (key === undefined || more.length > 0 || !HEADER.test(text.split("\n").find(hasContent) ?? "")) {
    const hint = "Give the .pub file of a key, or the entry that `aegis sign keygen` prints.";
    throw new AegisError("usage", `${source} is not one entry that begins with [[key]]`, hint);
  }
  if (key.name === null)
    throw new AegisError(
      "usage",
      `${source} does not say whose key it is, so it could sign under any name`,
      'Add to the entry: name = "alice@example"',
    );
  if (!isOwnerName(key.name))
    throw new AegisError(
      "usage",
      `${source} names its owner ${JSON.stringify(key.name)}, which looks like another name or none`,
      "A name is printable, without invisible characters: of two that look alike, one person could approve twice.",
    );
  return { text, key };
}

/** Whether a name can be told from others by looking at it, as far as characters that can't be seen are concerned. */
export function isOwnerName(name: string): boolean {
  return name.length <= 200 && safe(name) === name && !/^[\s<…]|[\s>]$/.test(name);
}

/** The text with an entry at its end. @throws AegisError `invalid_config`, as {@link settled} */
export function withEntry(text: string, entry: { text: string; key: TrustedKey }, source: string): string {
  const before = text === "" || text.endsWith("\n") ? text : `${text}\n`;
  return settled(`${before}${before.trim() === "" ? "" : "\n"}${entry.text}`, source, [
    ...parseTrustedKeys(text, source),
    entry.key,
  ]);
}

/** A change of one entry. */
export type EntryChange = { revoked: true } | { notAfter: Date };

/**
 * The text with entry number `n`, counted from 0, changed. `remark` becomes a comment on the line.
 * @throws AegisError `invalid_config`, as {@link settled}
 */
export function withChange(
  text: string,
  n: number,
  change: EntryChange,
  remark: string,
  source: string,
): string {
  const keys = parseTrustedKeys(text, source);
  const [name, value] =
    "revoked" in change
      ? ["revoked", "true"]
      : ["not_after", change.notAfter.toISOString().replace(".000Z", "Z")];
  const lines = text.split("\n");
  const headers = lines.flatMap((line, at) => (HEADER.test(line) ? [at] : []));
  const header = headers[n];
  if (header === undefined || headers.length !== keys.length) throw unusual(source);
  const next = lines.findIndex((line, at) => at > header && /^\s*\[/.test(line));
  const end = next < 0 ? lines.length : next;
  const setting = new RegExp(`^(\\s*(?:${name}|"${name}")\\s*=\\s*)([^#\\r]*?)([ \\t]*(?:#[^\\r]*)?)(\\r?)$`);
  const at = lines.findIndex((line, i) => i > header && i < end && setting.test(line));
  const comment = remark === "" ? "" : `  # ${remark}`;
  if (at >= 0) {
    lines[at] = (lines[at] ?? "").replace(
      setting,
      (_, left: string, _old: string, right: string, eol: string) =>
        `${left}${value}${right}${comment}${eol}`,
    );
  } else {
    const last = lines.findLastIndex((line, i) => i >= header && i < end && hasContent(line));
    const eol = lines[header]?.endsWith("\r") ? "\r" : "";
    lines.splice(last + 1, 0, `${name} = ${value}${comment}${eol}`);
  }
  return settled(
    lines.join("\n"),
    source,
    keys.map((key, i) => (i === n ? { ...key, ...change } : key)),
  );
}

const HEADER = /^\s*\[\[\s*(?:key|"key")\s*\]\]\s*(?:#[^\r]*)?\r?$/;

/** Whether a line is neither empty nor only a comment. */
function hasContent(line: string): boolean {
  return !/^\s*(?:#|$)/.test(line);
}

/**
 * The edited text, if it means what was intended.
 * @throws AegisError `invalid_config` if it doesn't: the file is written in a way that this edit doesn't know
 */
function settled(text: string, source: string, intended: readonly TrustedKey[]): string {
  let found: readonly TrustedKey[];
  try {
    found = parseTrustedKeys(text, source);
  } catch {
    throw unusual(source);
  }
  if (!isDeepStrictEqual(found, intended)) throw unusual(source);
  return text;
}

function unusual(source: string): AegisError {
  return new AegisError(
    "invalid_config",
    `${source} is written in a way that can't be edited safely; nothing was changed`,
    `Write each key as a [[key]] table with one setting a line, or make this change by hand in ${source}.`,
  );
}
