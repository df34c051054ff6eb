import { existsSync } from "node:fs";
import { join } from "node:path";
import { recordUserEvent } from "./audit-log.ts";
import { AegisError } from "./errors.ts";
import { loadSecret, type SecretKey } from "./key.ts";
import { generateKey, writeKeyFiles } from "./key-file.ts";
import type { Log } from "./log.ts";
import { type Env, userPaths } from "./paths.ts";
import { makeReview } from "./review.ts";
import { serveReviewer } from "./review-service.ts";
import { readModelSettings } from "./review-settings.ts";
import { assertSafeEnvironment, stopSignal } from "./self.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";
import type { Listen } from "./wire-server.ts";

/**
 * Runs the reviewer until it receives a stop signal.
 * @throws AegisError `refused` as root; errors of the settings, the key file and {@link serveReviewer}
 */
export async function runReviewer(
  listen: Listen,
  keyFile: string | undefined,
  env: Env,
  log: Log,
): Promise<void> {
  if (process.geteuid?.() === 0) {
    throw new AegisError(
      "refused",
      "the reviewer must not run as root: it talks to a model and needs no privileges",
      "Start it as another user: sudo -u <user> aegis daemon --reviewer --socket <path>",
    );
  }
  const settings = readModelSettings(env);
  const secret = reviewerKey(keyFile, env, log);
  const record = (event: Parameters<typeof recordUserEvent>[1]) => void recordUserEvent(env, event);
  const reviewer = await serveReviewer({ listen, settings, secret, makeReview, record, log });
  log.info("reviewer ready", {
    model: settings.model,
    at: settings.baseUrl.host,
    public_key_hex: secret.publicKeyHex,
  });
  await stopSignal();
  await reviewer.close();
}

/** The review signing key: the given file, the systemd credential, or this user's own key, generated on first use. */
function reviewerKey(file: string | undefined, env: Env, log: Log): SecretKey {
  const given = loadSecret("review", { file }, env, log.warn);
  if (given !== null) return given;
  const { keys } = userPaths(env);
  const own = join(keys, "reviewer-key");
  if (!existsSync(own)) {
    assertSafeEnvironment(env);
    ensureOwnDir(keys);
    writeKeyFiles(own, generateKey());
    log.info("generated a review signing key", { file: own });
  }
  const secret = loadSecret("review", { file: own }, env, log.warn);
  if (secret === null) throw new AegisError("internal", `the key file ${own} could not be read`);
  return secret;
}
