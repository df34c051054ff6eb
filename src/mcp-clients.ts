import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";

/*
 * The settings by which common agents start the server. Each has its own file and keys for the same: a program and its arguments.
 */

const WORDS = ["daemon", "--mcp"];
/** Longest call, in seconds: a request may wait for a person. */
const CALL_SECONDS = 24 * 60 * 60;

/** What an agent must be given. */
interface ClientSettings {
  /** What its makers call it. */
  title: string;
  /** Where the settings belong; if the file exists, they are added to it. */
  file: string;
  settings: string;
  /** Where the rules for agents belong. */
  skill_file: string;
}

const json = (value: object) => `${JSON.stringify(value, null, 2)}\n`;
const skillIn = (directory: string) => `${directory}/skills/aegis-production-ops/SKILL.md`;

/** By the name that is typed. Each is written as the makers' documentation of that file has it. */
const SETTINGS: Readonly<Record<string, ClientSettings>> = {
  "claude-code": {
    title: "Claude Code",
    file: ".mcp.json",
    settings: json({
      mcpServers: {
        aegis: { type: "stdio", command: SYSTEM.binary, args: WORDS, timeout: CALL_SECONDS * 1000 },
      },
    }),
    skill_file: skillIn("~/.claude"),
  },
  codex: {
    title: "Codex",
    file: "~/.codex/config.toml",
    settings: [
      "[mcp_servers.aegis]",
      `command = ${JSON.stringify(SYSTEM.binary)}`,
      `args = [${WORDS.map((word) => JSON.stringify(word)).join(", ")}]`,
      `tool_timeout_sec = ${CALL_SECONDS}`,
      "",
    ].join("\n"),
    skill_file: skillIn("~/.codex"),
  },
  "gemini-cli": {
    title: "Gemini CLI",
    file: "~/.gemini/settings.json",
    settings: json({
      mcpServers: { aegis: { command: SYSTEM.binary, args: WORDS, timeout: CALL_SECONDS * 1000 } },
    }),
    skill_file: skillIn("~/.gemini"),
  },
  opencode: {
    title: "OpenCode",
    file: "~/.config/opencode/opencode.json",
    settings: json({
      $schema: "https://opencode.ai/config.json",
      mcp: { aegis: { type: "local", command: [SYSTEM.binary, ...WORDS], enabled: true } },
    }),
    skill_file: skillIn("~/.config/opencode"),
  },
};

/** The agents that settings can be written for. */
export const MCP_CLIENTS = Object.keys(SETTINGS);

/** @throws AegisError `usage` for an agent that is not in {@link MCP_CLIENTS} */
export function clientSettings(name: string): ClientSettings {
  const found = Object.hasOwn(SETTINGS, name) ? SETTINGS[name] : undefined;
  if (found === undefined)
    throw new AegisError("usage", "no such agent is known", `Known: ${MCP_CLIENTS.join(", ")}`);
  return found;
}
