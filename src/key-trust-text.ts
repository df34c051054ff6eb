import type { PublicKey } from "./key-file.ts";

/* trusted-keys.toml as text: the entry of a new key. */

/**
 * The entry for a key. What is not known of it is a placeholder, with which the file is refused: an entry that is right by
 * accident would trust an approver's key to sign.
 */
export function entryText({ key_id, public_key_hex, name, role }: PublicKey): string {
  return [
    "[[key]]",
    `id = ${text(key_id)}`,
    `name = ${text(name ?? "<owner>")}`,
    `public_key_hex = ${text(public_key_hex)}`,
    `role = ${role === undefined ? '"<role>"   # "execution" or "approval"; never both' : text(role)}`,
    "",
  ].join("\n");
}

/** A TOML basic string: JSON's escapes are TOML's, except that TOML wants DEL escaped too. */
function text(value: string): string {
  return JSON.stringify(value.toWellFormed()).replaceAll("\u007f", "\\u007f");
}
