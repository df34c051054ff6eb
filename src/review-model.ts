import * as v from "valibot";
import { VERDICT_JSON_SCHEMA } from "./doc-verdict.ts";
import { AegisError } from "./errors.ts";
import type { ChatMessage } from "./review-prompt.ts";
import { HINT_BASE_URL, type ModelSettings } from "./review-settings.ts";
import { fetchText, type JsonRequest, noUsableAnswer } from "./sys-fetch.ts";

/*
 * Client for OpenAI-compatible model servers (vLLM, llama.cpp, Ollama and others):
 * https://platform.openai.com/docs/api-reference/chat
 */

const MAX_REPLY = 4 * 1024 * 1024;
/** Limit, in characters, on a server's error text in our messages. */
const MAX_EXCERPT = 300;

/** Response formats to try, strictest first; not every server supports each. */
const FORMATS = [
  {
    response_format: {
      type: "json_schema",
      json_schema: { name: "review", strict: true, schema: VERDICT_JSON_SCHEMA },
    },
  },
  { response_format: { type: "json_object" } },
  {},
] as const;
/** HTTP statuses of servers that don't support a format. */
const FORMAT_REFUSED = new Set([400, 404, 415, 422, 501]);

/**
 * Asks the model and returns the response body, JSON text. `settings.timeoutMs` covers all attempts together.
 * @throws AegisError `unavailable`, `timeout`; the abort reason of `signal` if it is an AegisError
 */
export async function askModel(
  messages: readonly ChatMessage[],
  settings: ModelSettings,
  signal: AbortSignal,
): Promise<string> {
  const limitMs = settings.timeoutMs(messages.reduce((sum, { content }) => sum + content.length, 0));
  const request = {
    model: settings.model,
    messages,
    temperature: 0,
    max_tokens: settings.maxOutputTokens,
    stream: false,
  };
  return limited(settings, signal, { limitMs, variable: "AEGIS_AI_REVIEW_TIMEOUT_SECS" }, async (within) => {
    const forms = settings.jsonFormat ? [...FORMATS] : [{}];
    for (;;) {
      const body = { ...request, ...forms.shift() };
      const answer = await exchange(settings, "chat/completions", { body, signal: within });
      if (typeof answer === "string") return answer;
      if (forms.length === 0 || !FORMAT_REFUSED.has(answer.status)) throw answer.error;
    }
  });
}

const Models = v.object({
  data: v.pipe(v.array(v.object({ id: v.pipe(v.string(), v.maxLength(1024)) })), v.maxLength(10_000)),
});

/**
 * The names of the models that the server offers. Waits for at most `settings.modelsTimeoutMs`.
 * @throws AegisError as {@link askModel}
 */
export async function listModels(settings: ModelSettings, signal: AbortSignal): Promise<string[]> {
  const limit = { limitMs: settings.modelsTimeoutMs, variable: "AEGIS_AI_MODELS_TIMEOUT_SECS" };
  const answer = await limited(settings, signal, limit, (within) =>
    exchange(settings, "models", { signal: within }),
  );
  if (typeof answer !== "string") throw answer.error;
  const models = v.safeParse(Models, JSON.parse(answer));
  if (!models.success) throw noUsableAnswer(settings.baseUrl, "it is not a list of models", HINT_BASE_URL);
  return models.output.data.map(({ id }) => id);
}

interface Limit {
  limitMs: number;
  /** The environment variable that raises the limit. */
  variable: string;
}

/** Runs `task` with a time limit, and turns an abort by timeout or caller into an error that says so. */
async function limited<T>(
  settings: ModelSettings,
  signal: AbortSignal,
  { limitMs, variable }: Limit,
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const timer = AbortSignal.timeout(limitMs);
  try {
    return await task(AbortSignal.any([signal, timer]));
  } catch (error) {
    if (signal.aborted) {
      if (signal.reason instanceof AegisError) throw signal.reason;
      throw noUsableAnswer(settings.baseUrl, "the request was cancelled");
    }
    if (!timer.aborted) throw withHint(error);
    const what = `the model at ${settings.baseUrl.host} did not answer within ${limitMs / 1000} s`;
    throw new AegisError("timeout", what, `Give it more time: ${variable}=<seconds>`);
  }
}

/** Adds a general hint to an error that has none. */
function withHint(error: unknown): unknown {
  if (!(error instanceof AegisError) || error.hint !== "") return error;
  const hint = "Check the model server at AEGIS_AI_BASE_URL. A review is optional.";
  return new AegisError(error.code, error.message, hint, error.details);
}

/** The server's JSON response text, or its error status. */
async function exchange(
  settings: ModelSettings,
  path: string,
  request: Pick<JsonRequest, "body" | "signal">,
): Promise<string | { status: number; error: AegisError }> {
  const { baseUrl, apiKey } = settings;
  const headers: Record<string, string> = apiKey === null ? {} : { authorization: `Bearer ${apiKey}` };
  const answer = await fetchText(new URL(path, baseUrl), { ...request, headers, maxBytes: MAX_REPLY });
  const { status, contentType, text } = answer;
  const unusable = (why: string, hint = "") => noUsableAnswer(baseUrl, why, hint);
  if (status >= 300 && status < 400) {
    throw unusable(
      `status ${status}; redirects are not followed`,
      "Set AEGIS_AI_BASE_URL to the redirect's target.",
    );
  }
  if (status !== 200) {
    const said = excerptOf(text, apiKey);
    return {
      status,
      error: unusable(`status ${status}${said === "" ? "" : `: ${said}`}`, HINTS.get(status)),
    };
  }
  if (!/^(?:application|text)\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(contentType)) {
    const type =
      contentType === ""
        ? "no content type"
        : `content type ${withoutKey(contentType, apiKey).slice(0, 100)}`;
    const stream = /^text\/event-stream\b/i.test(contentType) ? ", a stream, which was not requested" : "";
    throw unusable(`${type}${stream} instead of JSON`, HINT_BASE_URL);
  }
  try {
    JSON.parse(text);
  } catch {
    throw unusable("it is not JSON", HINT_BASE_URL);
  }
  return text;
}

const HINTS = new Map([
  [401, "The server requires a key: set AEGIS_AI_API_KEY."],
  [403, "The server rejects this key: set another AEGIS_AI_API_KEY."],
  [404, "Check AEGIS_AI_BASE_URL, and that the server has the model AEGIS_AI_MODEL."],
  [429, "The server is overloaded: try again later."],
]);

const ErrorAnswer = v.union([
  v.pipe(
    v.object({ error: v.object({ message: v.string() }) }),
    v.transform(({ error }) => error.message),
  ),
  v.pipe(
    v.object({ error: v.string() }),
    v.transform(({ error }) => error),
  ),
  v.pipe(
    v.object({ message: v.string() }),
    v.transform(({ message }) => message),
  ),
  v.pipe(
    v.object({ detail: v.string() }),
    v.transform(({ detail }) => detail),
  ),
]);

/** The message in an error's JSON, truncated, with the API key redacted: some servers echo it. */
function excerptOf(text: string, apiKey: string | null): string {
  let tree: unknown;
  try {
    tree = JSON.parse(text);
  } catch {
    return "";
  }
  const said = v.safeParse(ErrorAnswer, tree);
  if (!said.success) return "";
  const words = said.output.replace(/\s+/g, " ").trim();
  const excerpt = withoutKey(words, apiKey);
  return excerpt.length > MAX_EXCERPT ? `${excerpt.slice(0, MAX_EXCERPT)}…` : excerpt;
}

function withoutKey(text: string, apiKey: string | null): string {
  return apiKey === null ? text : text.replaceAll(apiKey, "(key)");
}
