import { lstatSync } from "node:fs";
import { AegisError, messageOf } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { loadPolicyConfig, type PolicyConfig } from "./policy-config.ts";
import { listModels } from "./review-model.ts";
import { readModelSettings } from "./review-settings.ts";
import { reviewerStatus } from "./wire-reviewer-client.ts";

/** Names of models that a finding repeats. */
const MODELS_SHOWN = 5;
/** A service that says nothing for so long is not well. */
const SILENCE_MS = 10_000;

/** Whether the model that reviews are asked of answers, and knows the configured name. */
export async function reviewModel(env: Env): Promise<Finding[]> {
  // A review is optional, so its model may be missing, unless the policy demands one.
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
        `${where}: the server has no such model`,
        models.length === 0 ? "Load it there." : `Set AEGIS_AI_MODEL to one of ${others}${more}, or load it.`,
      ),
    ];
  } catch (error) {
    const hint = error instanceof AegisError ? error.hint : "";
    return [
      problem("model", messageOf(error), hint || "Reviews are optional; start the model to have them."),
    ];
  }
}

/** Whether the reviewer service answers, and whether a policy that demands its reviews knows its key. */
export async function reviewerService(env: Env, socket: string = SYSTEM.reviewerSocket): Promise<Finding[]> {
  const demanding = policies(env).filter(({ config }) => config.review.required);
  const problem = demanding.length > 0 ? fail : warn;
  const stat = lstatSync(socket, { throwIfNoEntry: false });
  if (stat === undefined) {
    const start = "Start it as an ordinary user's service: aegis daemon --reviewer";
    return [problem("reviewer", "no reviewer runs on this host", start)];
  }
  if (!stat.isSocket()) return [fail("reviewer", `${socket} is not a socket`, `Look: ls -l ${socket}`)];
  try {
    const status = await reviewerStatus(socket, { silenceMs: SILENCE_MS });
    const strangers = demanding.filter(
      ({ config: { review } }) => !review.public_keys.includes(status.public_key_hex),
    );
    const message = `answers; model: ${status.model}, asking: ${status.asking}, waiting: ${status.waiting}`;
    if (strangers.length === 0) return [ok("reviewer", message)];
    return [
      warn(
        "reviewer",
        `${strangers.map(({ source }) => source).join(" and ")} requires reviews but does not take this reviewer's`,
        `Put ${status.public_key_hex} into [review] public_keys, if this reviewer is the one meant.`,
      ),
    ];
  } catch (error) {
    return [problem("reviewer", messageOf(error), error instanceof AegisError ? error.hint : "")];
  }
}

/** Policies that require a review and name no reviewer: this user's and the executor's. */
export function reviewKeys(env: Env): Finding[] {
  return policies(env)
    .filter(({ config: { review } }) => review.required && review.public_keys.length === 0)
    .map(({ source }) =>
      warn(
        "review",
        `${source} requires a review but trusts no reviewer, so every plan needs a human`,
        "Put the reviewer's public key into [review] public_keys.",
      ),
    );
}

/** Whether the policy of this user or of the executor demands a review. */
function isRequired(env: Env): boolean {
  return policies(env).some(({ config }) => config.review.required);
}

/** This user's policy and the executor's, each once. One that can't be read is the policy check's to report. */
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
