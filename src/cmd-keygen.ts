import { defineSubcommand } from "./command.ts";
import { AegisError, EXIT } from "./errors.ts";
import { assertKeyPath, generateKey, writeKeyFiles } from "./key-file.ts";
import { newPassphrase } from "./key-unlock.ts";
import { assertSafeEnvironment } from "./self.ts";
import { safe } from "./terminal.ts";

/** `aegis sign keygen`: generates an Ed25519 key, into files or onto stdout. */
export const signKeygen = defineSubcommand({
  name: "sign keygen",
  description:
    "Make an Ed25519 key: the secret into a 0600 file and the public part beside it, or both as JSON.",
  args: {
    out: { type: "string", valueHint: "file", description: "write <file> and <file>.pub" },
    encrypt: { type: "boolean", description: "encrypt <file> with a passphrase, asked for on the terminal" },
  },
  async run(values, io) {
    assertSafeEnvironment(io.env);
    if (values.encrypt && values.out === undefined) {
      throw new AegisError("usage", "--encrypt needs a file to encrypt", "Add: --out <file>");
    }
    if (values.out !== undefined) assertKeyPath(values.out);
    const passphrase = values.encrypt ? await newPassphrase() : undefined;
    const key = generateKey();
    const { secret_key_hex: _, ...publicPart } = key;
    if (values.out === undefined) {
      if (io.terminal.interactive) {
        io.note(
          "warning: secret_key_hex is the secret, and stays in this terminal's history. Better: --out <file>, which only you can read",
        );
      }
      io.result(key, JSON.stringify(key, null, 2));
      return EXIT.ok;
    }
    writeKeyFiles(values.out, key, passphrase);
    if (passphrase === undefined) {
      io.note(`note: ${safe(values.out)} is not encrypted: anyone who can read it can sign. See --encrypt.`);
    }
    const toml = [
      "[[key]]",
      `id = "${key.key_id}"`,
      'name = "<owner>"',
      `public_key_hex = "${key.public_key_hex}"`,
      'role = "execution"   # or "approval"; never both',
    ];
    io.result(
      { ...publicPart, path: values.out, public_path: `${values.out}.pub`, encrypted: values.encrypt },
      [
        `Key ${key.key_id}`,
        `Secret    ${safe(values.out)} (${values.encrypt ? "encrypted; " : ""}readable only by you)`,
        `Public    ${safe(values.out)}.pub`,
        "\nTo trust it, root adds to /etc/aegis/trusted-keys.toml:\n",
        ...toml.map((line) => `  ${line}`),
      ].join("\n"),
    );
    return EXIT.ok;
  },
});
