import { lstatSync } from "node:fs";
import { AegisError, messageOf } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { loadPolicyConfig, type PolicyConfig } from "./policy-config.ts";
import { listModels } from "./review-model.ts";
import { readModelSettings } from "./review-settings.ts";
import { reviewerStatus } from "./wire-reviewer-client.ts";

/** Limit on the model names in a finding. */
const MODELS_SHOWN = 5;
/** How long the service may take to answer. */
const SILENCE_MS = 10_000;

/** Whether the model server answers and has the configured model. */
export async function reviewModel(env: Env): Promise<Finding[]> {
  // Reviews are optional, so a missing model is only a warning, unless the policy requires reviews.
  const problem = isRequired(env) ? fail : warn;
  try {
    const settings = readModelSettings(env);
    const where = `${settings.model} at ${settings.baseUrl.host}`;
    const models = await listModels(settings, new AbortController().signal);
    if (models.includes(settings.model)) return [ok("model", where)];
    const others = models.slice(0, MODELS_SHOWN).join(", ");
    const more = models.length > MODELS_SHOWN ? ", …" : "";
    return [
      problem(
        "model",
        `${where}: the server does not have this model`,
        models.length === 0
          ? "Load it on the server."
          : `Set AEGIS_AI_MODEL to one of ${others}${more}, or load it on the server.`,
      ),
    ];
  } catch (error) {
    const hint = error instanceof AegisError ? error.hint : "";
    return [
      problem(
        "model",
        messageOf(error),
        hint || "Reviews are optional; to get them, start the model server.",
      ),
    ];
  }
}

/** Whether the reviewer service answers, and whether policies that require reviews accept its key. */
export async function reviewerService(env: Env, socket: string = SYSTEM.reviewerSocket): Promise<Finding[]> {
  const requiring = policies(env).filter(({ config }) => config.review.required);
  const problem = requiring.length > 0 ? fail : warn;
  const stat = lstatSync(socket, { throwIfNoEntry: false });
  if (stat === undefined) {
    const start = "Start it as an unprivileged user: aegis daemon --reviewer";
    return [problem("reviewer", "no reviewer runs on this host", start)];
  }
  if (!stat.isSocket()) return [fail("reviewer", `${socket} is not a socket`, `Type: ls -l ${socket}`)];
  try {
    const status = await reviewerStatus(socket, { silenceMs: SILENCE_MS });
    const rejecting = requiring.filter(
      ({ config: { review } }) => !review.public_keys.includes(status.public_key_hex),
    );
    const message = `answers; model: ${status.model}, asking: ${status.asking}, waiting: ${status.waiting}`;
    if (rejecting.length === 0) return [ok("reviewer", message)];
    return [
      warn(
        "reviewer",
        `${rejecting.map(({ source }) => source).join(" and ")} requires reviews but does not accept this reviewer's`,
        `If this is the right reviewer, add ${status.public_key_hex} to [review] public_keys.`,
      ),
    ];
  } catch (error) {
    return [problem("reviewer", messageOf(error), error instanceof AegisError ? error.hint : "")];
  }
}

/** Policies, the user's and the executor's, that require a review but name no reviewer. */
export function reviewKeys(env: Env): Finding[] {
  return policies(env)
    .filter(({ config: { review } }) => review.required && review.public_keys.length === 0)
    .map(({ source }) =>
      warn(
        "review",
        `${source} requires a review but trusts no reviewer, so every plan needs a human`,
        "Add the reviewer's public key to [review] public_keys.",
      ),
    );
}

/** Whether the user's or the executor's policy requires a review. */
function isRequired(env: Env): boolean {
  return policies(env).some(({ config }) => config.review.required);
}

/** The user's and the executor's policies, without duplicates. The policy check reports one that can't be read. */
function policies(env: Env): { config: PolicyConfig; source: string }[] {
  const found = new Map<string, { config: PolicyConfig; source: string }>();
  for (const load of [() => loadPolicyConfig(env), () => loadPolicyConfig({}, { system: true })]) {
    try {
      const { config, source } = load();
      found.set(source, { config, source });
    } catch {
      // Broken or not readable.
    }
  }
  return [...found.values()];
}
