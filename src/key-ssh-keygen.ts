import { resolve } from "node:path";
import { AegisError } from "./errors.ts";
import {
  dearmorSshSignature,
  parseSshKey,
  SSHSIG_NAMESPACE,
  type SshKey,
  sshSignatureProblem,
} from "./key-sshsig.ts";
import type { Env } from "./paths.ts";
import { fileProblem, readFileLimited } from "./sys-files.ts";
import { resolveProgram, runFed } from "./sys-spawn.ts";
import { safe } from "./terminal.ts";

/*
 * Signing with an OpenSSH key by ssh-keygen(1), -Y sign: the secret stays in its file, in the user's agent, or in the security
 * key. ssh-keygen asks for a passphrase or a PIN itself, on the terminal or by SSH_ASKPASS.
 */

/** A security key waits 15 to 30 seconds for a touch; a person may have to fetch it first. */
const SIGN_MS = 180_000;
const MAX_KEY_BYTES = 16 * 1024;
const MAX_SIGNATURE_BYTES = 16 * 1024;

/** What ssh-keygen needs to reach the user's agent, security key, and graphical session. Nothing else is handed on. */
const HANDED_ON = [
  "HOME",
  "SSH_AUTH_SOCK",
  "SSH_ASKPASS",
  "SSH_ASKPASS_REQUIRE",
  "SSH_SK_PROVIDER",
  "DISPLAY",
  "WAYLAND_DISPLAY",
  "XAUTHORITY",
  "XDG_RUNTIME_DIR",
  "DBUS_SESSION_BUS_ADDRESS",
] as const;

/** A user's OpenSSH key. */
export interface OwnSshKey extends SshKey {
  /** For ssh-keygen, absolute: the secret key's file, or the .pub file of a key in the agent. */
  file: string;
  /** The line of its .pub file. */
  line: string;
}

/**
 * The key of a file for `--ssh-key`: a .pub file, or a secret key's file with its .pub file beside it.
 * @throws AegisError `usage`, `invalid_key`
 */
export function readSshKey(file: string): OwnSshKey {
  const path = file.endsWith(".pub") ? file : `${file}.pub`;
  let text: string;
  try {
    text = readFileLimited(path, MAX_KEY_BYTES).toString("utf8");
  } catch (error) {
    throw new AegisError(
      "usage",
      `can't read the public key ${path}: ${fileProblem(error)}`,
      "Give a key of ssh-keygen, with its .pub file beside it. Make one in a security key: ssh-keygen -t ed25519-sk",
    );
  }
  const line = text.trimEnd();
  return { ...parseSshKey(line), file: resolve(file), line };
}

/**
 * Has ssh-keygen sign `message` in our namespace, and verifies the signature as the executor will. Its remarks, such as what to
 * confirm, go to `note`.
 * @throws AegisError `unavailable` without ssh-keygen, `refused` if it does not sign (no touch, wrong PIN), `signature_invalid`
 */
export async function signWithSshKeygen(
  key: OwnSshKey,
  message: Uint8Array,
  { verifyRequired, env, note }: { verifyRequired: boolean; env: Env; note: (line: string) => void },
): Promise<Buffer> {
  const program = resolveProgram("ssh-keygen");
  if (program === null) {
    throw new AegisError("unavailable", "there is no ssh-keygen here", "Install openssh-client.");
  }
  if (key.application !== null)
    note("Touch the security key when it blinks; enter its PIN if it asks for one.");
  const handedOn = HANDED_ON.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]] as const]));
  const { status, outcome, stdout } = await runFed(
    program,
    ["-Y", "sign", "-n", SSHSIG_NAMESPACE, "-f", key.file],
    {
      env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", ...Object.fromEntries(handedOn) },
      timeoutMs: SIGN_MS,
      maxBytes: MAX_SIGNATURE_BYTES,
      input: Buffer.from(message).toString("utf8"),
      onErrorLine: (line) => note(`ssh-keygen: ${safe(line)}`),
    },
  );
  if (status !== 0) {
    throw new AegisError(
      "refused",
      `ssh-keygen did not sign${outcome === "timeout" ? ` within ${SIGN_MS / 60_000} minutes` : ""}; nothing was approved`,
      "Its own words are above. A security key has to be plugged in and touched; an agent has to have the key.",
    );
  }
  const blob = dearmorSshSignature(stdout.toString("utf8"));
  const problem = sshSignatureProblem(blob, message, key, verifyRequired);
  if (problem === null) return blob;
  throw new AegisError(
    "signature_invalid",
    `ssh-keygen's signature would be refused: ${problem}`,
    key.application === null
      ? NEEDS_TERMINAL
      : `Make the key without -O no-touch-required, and with -O verify-required if its entry has that. ${NEEDS_TERMINAL}`,
  );
}

/** Without a terminal of its session ssh-keygen takes the first line of what it should sign for the PIN. */
const NEEDS_TERMINAL =
  "To ask for a PIN or a passphrase, ssh-keygen needs a session with a terminal (/dev/tty) or SSH_ASKPASS.";
