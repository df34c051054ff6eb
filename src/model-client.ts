import { AegisError } from "./errors.ts";
import type { ChatMessage } from "./review-prompt.ts";
import type { ModelSettings } from "./review-settings.ts";

/**
 * Asks the model once, for at most `settings.timeoutMs`. Returns the body of the answer, JSON text.
 * @throws AegisError `unavailable`, `timeout`; what `signal` is aborted with, where that is an AegisError
 */
export async function askModel(
  _messages: readonly ChatMessage[],
  _settings: ModelSettings,
  _signal: AbortSignal,
): Promise<string> {
  throw new AegisError("unavailable", "not built yet");
}

/**
 * The names of the models that the server has, asked for at most `settings.modelsTimeoutMs`.
 * @throws AegisError as {@link askModel}
 */
export async function listModels(_settings: ModelSettings, _signal: AbortSignal): Promise<string[]> {
  throw new AegisError("unavailable", "not built yet");
}
