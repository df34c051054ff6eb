import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";
import { isLoopback } from "./sys-fetch.ts";

const DAY_SECONDS = 24 * 60 * 60;
/** Minimum for the default time limit: a model that is still loading takes minutes to answer. */
export const FLOOR_SECONDS = 300;
/** How fast a model is assumed to read and to write, in tokens per second, and how many seconds loading it may take. */
export const PACE = { prefill: 330, decode: 17, startup: 120 } as const;
/** Characters of JSON and English per token, a low estimate: too long a limit costs less than too short a one. */
const CHARS_PER_TOKEN = 3;

/** Hint for responses that no model server gives. */
export const HINT_BASE_URL =
  "Check that AEGIS_AI_BASE_URL is an OpenAI-compatible API, for example http://localhost:8000/v1";

/** How to reach the model, and how long to wait for it. */
export interface ModelSettings {
  /** Ends in `/`, has no user information, query or fragment. */
  baseUrl: URL;
  model: string;
  maxOutputTokens: number;
  /** Secret: goes into one request header and nowhere else. */
  apiKey: string | null;
  /** Whether to request a reply that follows the verdict's JSON schema. */
  jsonFormat: boolean;
  /** Time limit of `GET /models`. */
  modelsTimeoutMs: number;
  /** Time limit of a review, in milliseconds, by the prompt's length in characters. */
  timeoutMs(promptChars: number): number;
}

/**
 * The reviewer's settings from `AEGIS_AI_*`. An empty variable counts as unset.
 * @throws AegisError `invalid_config` naming the variable; `unavailable` for a remote server that is not allowed
 */
export function readModelSettings(env: Env): ModelSettings {
  const baseUrl = readBaseUrl(env);
  const maxOutputTokens = readNumber(env, "AEGIS_AI_MAX_OUTPUT_TOKENS", 4096, { least: 64, most: 131_072 });
  const rate = { least: 0.1, most: 1_000_000, fractions: true };
  const prefill = readNumber(env, "AEGIS_AI_PREFILL_TOKENS_PER_SEC", PACE.prefill, rate);
  const decode = readNumber(env, "AEGIS_AI_DECODE_TOKENS_PER_SEC", PACE.decode, rate);
  const seconds = { least: 1, most: DAY_SECONDS };
  const startup = readNumber(env, "AEGIS_AI_MODEL_STARTUP_ALLOWANCE_SECS", PACE.startup, {
    ...seconds,
    least: 0,
  });
  const told = readNumber(env, "AEGIS_AI_REVIEW_TIMEOUT_SECS", null, seconds);
  const estimate = (chars: number) => startup + chars / CHARS_PER_TOKEN / prefill + maxOutputTokens / decode;
  return {
    baseUrl,
    model: readModel(env),
    maxOutputTokens,
    apiKey: readApiKey(env),
    jsonFormat: readFlag(env, "AEGIS_AI_RESPONSE_FORMAT_JSON", true),
    modelsTimeoutMs: readNumber(env, "AEGIS_AI_MODELS_TIMEOUT_SECS", 15, { ...seconds, most: 3600 }) * 1000,
    // A timer of more than 2^31 ms would fire at once; a day is far below that.
    timeoutMs: (chars) =>
      Math.round(1000 * (told ?? Math.min(DAY_SECONDS, Math.max(FLOOR_SECONDS, estimate(chars))))),
  };
}

function readBaseUrl(env: Env): URL {
  const name = "AEGIS_AI_BASE_URL";
  const text = given(env, name) ?? "http://localhost:8000/v1";
  const url = URL.parse(text);
  // The message omits the value, which may contain a password.
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw invalid(name, "is not an http or https URL", "For example http://localhost:8000/v1");
  }
  if (url.username !== "" || url.password !== "" || /[?#]/.test(text)) {
    throw invalid(name, "has a user name, a query or a fragment", "A key goes into AEGIS_AI_API_KEY.");
  }
  if (!isLoopback(url) && !readFlag(env, "AEGIS_AI_ALLOW_REMOTE", false)) {
    throw new AegisError(
      "unavailable",
      `the model at ${url.host} is not on this machine, and a plan reveals what this machine runs`,
      "Set AEGIS_AI_ALLOW_REMOTE=1 to send plans there anyway.",
    );
  }
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

function readModel(env: Env): string {
  const name = "AEGIS_AI_MODEL";
  const model = given(env, name) ?? "deepseek-v4-flash";
  if (!/^[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?$/.test(model)) {
    throw invalid(name, "is not a model name (1 to 256 ASCII characters)");
  }
  return model;
}

function readApiKey(env: Env): string | null {
  const name = "AEGIS_AI_API_KEY";
  const key = given(env, name);
  if (key !== null && !/^[\x21-\x7e]{1,4096}$/.test(key)) {
    throw invalid(name, "contains a space, a line break or another character not allowed in an HTTP header");
  }
  return key;
}

function readFlag(env: Env, name: string, fallback: boolean): boolean {
  const text = given(env, name);
  if (text === null) return fallback;
  if (text !== "0" && text !== "1") throw invalid(name, "is neither 0 nor 1");
  return text === "1";
}

interface Range {
  least: number;
  most: number;
  fractions?: boolean;
}

function readNumber<F extends number | null>(env: Env, name: string, fallback: F, range: Range): number | F {
  const text = given(env, name);
  if (text === null) return fallback;
  const { least, most, fractions = false } = range;
  const value = (fractions ? /^\d{1,9}(?:\.\d{1,9})?$/ : /^\d{1,9}$/).test(text) ? Number(text) : Number.NaN;
  // Written so that NaN fails.
  if (!(value >= least && value <= most)) {
    throw invalid(name, `is not a ${fractions ? "" : "whole "}number from ${least} to ${most}`);
  }
  return value;
}

function given(env: Env, name: string): string | null {
  const value = env[name] ?? "";
  return value === "" ? null : value;
}

function invalid(name: string, problem: string, hint = `Correct ${name}, or unset it.`): AegisError {
  return new AegisError("invalid_config", `${name} ${problem}`, hint);
}
