import { type ArgsSpec, defineSubcommand, type Values } from "./command.ts";
import { AegisError, EXIT } from "./errors.ts";
import {
  assertKeyPath,
  defaultKeyPath,
  generateKey,
  type KeyOwner,
  type PublicKey,
  writeKeyFiles,
} from "./key-file.ts";
import { entryText, isOwnerName } from "./key-trust-text.ts";
import type { Role } from "./key-trusted-keys.ts";
import { newPassphrase } from "./key-unlock.ts";
import { SYSTEM, userPaths } from "./paths.ts";
import { assertSafeEnvironment } from "./self.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";
import { safe, showArgv } from "./terminal.ts";

const ROLES: readonly Role[] = ["execution", "approval"];
const KEYGEN_ARGS = {
  role: {
    type: "enum",
    options: [...ROLES],
    description: "what it is for: signing plans, or approving other people's",
  },
  name: {
    type: "string",
    valueHint: "name",
    description: "whose it is, such as alice@example: signs and approves under this name only",
  },
  out: {
    type: "string",
    valueHint: "file",
    description: "write <file> and <file>.pub; with --role else ~/.config/aegis/<role>-key",
  },
  "break-glass": {
    type: "boolean",
    description: "an approval key for emergencies, to be sealed away: each use is logged and stays shown",
  },
  encrypt: { type: "boolean", description: "encrypt <file> with a passphrase, asked for on the terminal" },
} as const satisfies ArgsSpec;

/** `aegis sign keygen`: generates an Ed25519 key, into files or onto stdout, and prints its entry for trusted-keys.toml. */
export const signKeygen = defineSubcommand({
  name: "sign keygen",
  description:
    "Make an Ed25519 key: the secret into a 0600 file and the public part beside it, or both as JSON.",
  args: KEYGEN_ARGS,
  async run(values, io) {
    assertSafeEnvironment(io.env);
    const owner = ownerOf(values);
    const out = values.out ?? (owner.role === undefined ? undefined : defaultKeyPath(owner.role, io.env));
    if (out === undefined && (values.encrypt || owner.name !== undefined)) {
      const what = values.encrypt ? "--encrypt needs a file to encrypt" : "--name is for a key in a file";
      throw new AegisError("usage", what, "Add: --role execution, --role approval, or --out <file>");
    }
    if (values.out === undefined && out !== undefined) ensureOwnDir(userPaths(io.env).config);
    if (out !== undefined) assertKeyPath(out);
    const passphrase = values.encrypt ? await newPassphrase() : undefined;
    const key = generateKey();
    const { secret_key_hex: _, ...bare } = key;
    if (out === undefined) {
      if (io.terminal.interactive) {
        io.note(
          "warning: secret_key_hex is the secret, and stays in this terminal's history. Better: --out <file>, which only you can read",
        );
      }
      io.result(key, JSON.stringify(key, null, 2));
      return EXIT.ok;
    }
    writeKeyFiles(out, key, passphrase, owner);
    if (passphrase === undefined) {
      io.note(`note: ${safe(out)} is not encrypted: anyone who can read it can sign. See --encrypt.`);
    }
    const publicKey: PublicKey = { ...bare, ...owner };
    const entry = entryText(publicKey);
    io.result(
      { ...publicKey, path: out, public_path: `${out}.pub`, encrypted: values.encrypt, entry },
      [
        `Key ${key.key_id}`,
        `Secret    ${safe(out)} (${values.encrypt ? "encrypted; " : ""}readable only by you)`,
        `Public    ${safe(out)}.pub`,
        ...trusting(publicKey, out),
        ...entry
          .trimEnd()
          .split("\n")
          .map((line) => `  ${line}`),
      ].join("\n"),
    );
    return EXIT.ok;
  },
});

/** How root trusts the key: by one command where name and role are known, else by an entry to complete. */
function trusting({ name, role }: PublicKey, out: string): string[] {
  if (name === undefined || role === undefined)
    return [`\nTo trust it, root completes this and adds it to ${SYSTEM.trustedKeys}:\n`];
  const argv = showArgv(["aegis", "sign", "trust", "add", `${out}.pub`]);
  return [`\nTo trust it, as root: ${argv}`, `That adds to ${SYSTEM.trustedKeys}:\n`];
}

/**
 * Name and role as given; absent where they are not.
 * @throws AegisError `usage` for a name that the trusted keys could not have
 */
function ownerOf({ name, role, encrypt, ...values }: Values<typeof KEYGEN_ARGS>): KeyOwner {
  const isBreakGlass = values["break-glass"];
  if (isBreakGlass && (role !== "approval" || !encrypt || values.out === undefined)) {
    throw new AegisError(
      "usage",
      "a break-glass key approves, has a passphrase, and is kept elsewhere",
      "Add: --role approval --encrypt --out <file on a medium of its own>",
    );
  }
  if (name !== undefined && !isOwnerName(name)) {
    throw new AegisError(
      "usage",
      "--name takes up to 200 printable characters, not between spaces or < and >",
      "For example: --name alice@example",
    );
  }
  return {
    ...(name === undefined ? {} : { name }),
    ...ROLES.filter((one) => one === role).map((role) => ({ role }))[0],
    ...(isBreakGlass ? { break_glass: true as const } : {}),
  };
}
