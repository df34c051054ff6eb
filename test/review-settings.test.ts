import { describe, expect, test } from "bun:test";
import { readModelSettings } from "../src/review-settings.ts";

type Env = Record<string, string>;

/** What a bad value must not come back as: the value itself, which may be a secret. */
const REFUSED: [Env, string][] = [
  [{ AEGIS_AI_BASE_URL: "localhost:8000/v1" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "file:///etc/passwd" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "unix:/run/model.sock" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "http://user:hunter2@localhost/v1" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "http://hunter2@localhost/v1" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "http://localhost/v1?key=hunter2" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "http://localhost/v1?" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "http://localhost/v1#hunter2" }, "invalid_config"],
  [{ AEGIS_AI_BASE_URL: "http://192.0.2.1/v1" }, "unavailable"],
  [{ AEGIS_AI_BASE_URL: "https://api.example.com/v1" }, "unavailable"],
  [{ AEGIS_AI_BASE_URL: "http://localhost.example.com/v1" }, "unavailable"],
  [{ AEGIS_AI_BASE_URL: "http://127.0.0.1.example.com/v1" }, "unavailable"],
  [{ AEGIS_AI_BASE_URL: "http://0.0.0.0:8000/v1" }, "unavailable"],
  [{ AEGIS_AI_BASE_URL: "http://[::ffff:192.0.2.1]/v1" }, "unavailable"],
  [{ AEGIS_AI_BASE_URL: "http://192.0.2.1/v1", AEGIS_AI_ALLOW_REMOTE: "0" }, "unavailable"],
  [{ AEGIS_AI_BASE_URL: "http://192.0.2.1/v1", AEGIS_AI_ALLOW_REMOTE: "yes" }, "invalid_config"],
  [{ AEGIS_AI_MODEL: " m" }, "invalid_config"],
  [{ AEGIS_AI_MODEL: "m\nx" }, "invalid_config"],
  [{ AEGIS_AI_MODEL: "m\u202e" }, "invalid_config"],
  [{ AEGIS_AI_MODEL: "m".repeat(257) }, "invalid_config"],
  [{ AEGIS_AI_MAX_OUTPUT_TOKENS: "0" }, "invalid_config"],
  [{ AEGIS_AI_MAX_OUTPUT_TOKENS: "-1" }, "invalid_config"],
  [{ AEGIS_AI_MAX_OUTPUT_TOKENS: "1e3" }, "invalid_config"],
  [{ AEGIS_AI_MAX_OUTPUT_TOKENS: "4096.5" }, "invalid_config"],
  [{ AEGIS_AI_MAX_OUTPUT_TOKENS: " 4096" }, "invalid_config"],
  [{ AEGIS_AI_MAX_OUTPUT_TOKENS: "9999999999" }, "invalid_config"],
  [{ AEGIS_AI_API_KEY: "hunter2\r\nx: y" }, "invalid_config"],
  [{ AEGIS_AI_API_KEY: "hunter2 " }, "invalid_config"],
  [{ AEGIS_AI_API_KEY: "hünter2" }, "invalid_config"],
  [{ AEGIS_AI_RESPONSE_FORMAT_JSON: "false" }, "invalid_config"],
  [{ AEGIS_AI_REVIEW_TIMEOUT_SECS: "0" }, "invalid_config"],
  [{ AEGIS_AI_REVIEW_TIMEOUT_SECS: "86401" }, "invalid_config"],
  [{ AEGIS_AI_PREFILL_TOKENS_PER_SEC: "0" }, "invalid_config"],
  [{ AEGIS_AI_DECODE_TOKENS_PER_SEC: "0" }, "invalid_config"],
  [{ AEGIS_AI_DECODE_TOKENS_PER_SEC: "NaN" }, "invalid_config"],
  [{ AEGIS_AI_MODEL_STARTUP_ALLOWANCE_SECS: "x" }, "invalid_config"],
  [{ AEGIS_AI_MODELS_TIMEOUT_SECS: "0" }, "invalid_config"],
];

describe("invalid settings", () => {
  for (const [env, code] of REFUSED) {
    test(JSON.stringify(env).slice(0, 100), () => {
      const error = (() => {
        try {
          return readModelSettings(env);
        } catch (thrown) {
          return thrown;
        }
      })();
      expect(error).toMatchObject({ code });
      const { message, hint, details } = error as { message: string; hint: string; details: object };
      const shown = message + hint + JSON.stringify(details);
      expect(shown).toContain(code === "unavailable" ? "AEGIS_AI_ALLOW_REMOTE" : "AEGIS_AI_");
      expect(shown).not.toContain("hunter2");
    });
  }
});

const url = (env: Env) => readModelSettings(env).baseUrl.href;
const seconds = (env: Env, chars: number) => readModelSettings(env).timeoutMs(chars) / 1000;

describe("settings", () => {
  test("defaults", () => {
    const { timeoutMs: _, baseUrl, ...rest } = readModelSettings({});
    expect(baseUrl.href).toBe("http://localhost:8000/v1/");
    expect(rest).toEqual({
      model: "deepseek-v4-flash",
      maxOutputTokens: 4096,
      apiKey: null,
      jsonFormat: true,
      modelsTimeoutMs: 15_000,
    });
  });

  test("an empty variable counts as unset", () => {
    const env = { AEGIS_AI_API_KEY: "", AEGIS_AI_MODEL: "", AEGIS_AI_REVIEW_TIMEOUT_SECS: "" };
    expect(readModelSettings(env)).toMatchObject({ apiKey: null, model: "deepseek-v4-flash" });
  });

  test("explicit values", () => {
    const env = {
      AEGIS_AI_MODEL: "Qwen/Qwen3-8B:q4_K_M",
      AEGIS_AI_MAX_OUTPUT_TOKENS: "1000",
      AEGIS_AI_API_KEY: "sk-1",
      AEGIS_AI_RESPONSE_FORMAT_JSON: "0",
      AEGIS_AI_MODELS_TIMEOUT_SECS: "3",
    };
    expect(readModelSettings(env)).toMatchObject({
      model: "Qwen/Qwen3-8B:q4_K_M",
      maxOutputTokens: 1000,
      apiKey: "sk-1",
      jsonFormat: false,
      modelsTimeoutMs: 3000,
    });
  });

  const URLS: [string, string][] = [
    ["http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/"],
    ["http://127.9.9.9/v1/", "http://127.9.9.9/v1/"],
    ["http://[::1]:8080", "http://[::1]:8080/"],
    ["https://LOCALHOST/a/b", "https://localhost/a/b/"],
    ["http://0x7f000001/v1", "http://127.0.0.1/v1/"],
  ];
  for (const [given, used] of URLS) {
    test(`this machine: ${given}`, () => expect(url({ AEGIS_AI_BASE_URL: given })).toBe(used));
  }

  test("another machine, if allowed", () => {
    const env = { AEGIS_AI_BASE_URL: "https://192.0.2.1/v1", AEGIS_AI_ALLOW_REMOTE: "1" };
    expect(url(env)).toBe("https://192.0.2.1/v1/");
  });
});

describe("how long a review may take", () => {
  const FAST = { AEGIS_AI_DECODE_TOKENS_PER_SEC: "1000", AEGIS_AI_PREFILL_TOKENS_PER_SEC: "1000" };
  const CASES: [string, Env, number, number][] = [
    ["what is set, whatever the prompt", { AEGIS_AI_REVIEW_TIMEOUT_SECS: "7" }, 10_000_000, 7],
    ["never less than five minutes", FAST, 300, 300],
    ["start, 99,000 tokens at 330, 4080 tokens at 17", { AEGIS_AI_MAX_OUTPUT_TOKENS: "4080" }, 297_000, 660],
    [
      "a model that is already loaded",
      { AEGIS_AI_MODEL_STARTUP_ALLOWANCE_SECS: "0", AEGIS_AI_MAX_OUTPUT_TOKENS: "4080" },
      297_000,
      540,
    ],
    ["half a token a second", { ...FAST, AEGIS_AI_DECODE_TOKENS_PER_SEC: "0.5" }, 0, 120 + 8192],
    ["never more than a day", { AEGIS_AI_PREFILL_TOKENS_PER_SEC: "0.1" }, 1e9, 86_400],
  ];
  for (const [what, env, chars, expected] of CASES) {
    test(what, () => expect(seconds(env, chars)).toBe(expected));
  }
});
