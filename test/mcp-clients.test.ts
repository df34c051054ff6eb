import { expect, test } from "bun:test";
import { parse } from "smol-toml";
import * as v from "valibot";
import { clientSettings, MCP_CLIENTS } from "../src/mcp-clients.ts";

/*
 * The settings that each agent reads, in its own format. That the agents themselves take them was tried with Claude Code 2.1.332, Codex
 * 0.171.0, Gemini CLI 0.61.0 and OpenCode 1.18.33: the list of servers of each showed this one, of all but Codex (which doesn't try) as
 * connected.
 */

const START = ["/usr/local/bin/aegis", "daemon", "--mcp"];

test("an agent that is not known is refused, also by names that every object has", () => {
  for (const name of ["emacs", "constructor", "__proto__", ""])
    expect(() => clientSettings(name)).toThrow("no such agent is known");
});

/** Program and arguments that the settings start. */
const STARTED: Readonly<Record<string, (settings: string) => unknown>> = {
  "claude-code": (text) => startOf(JSON.parse(text).mcpServers.aegis),
  codex: (text) => startOf(v.parse(Codex, parse(text)).mcp_servers.aegis),
  "gemini-cli": (text) => startOf(JSON.parse(text).mcpServers.aegis),
  opencode: (text) => JSON.parse(text).mcp.aegis.command,
};
interface Start {
  command: string;
  args: string[];
}
const startOf = ({ command, args }: Start) => [command, ...args];
const Codex = v.object({
  mcp_servers: v.object({ aegis: v.object({ command: v.string(), args: v.array(v.string()) }) }),
});

test("each agent is told to start the program's tools", () => {
  const started = MCP_CLIENTS.map((name) => [name, STARTED[name]?.(clientSettings(name).settings)]);
  expect(started).toEqual(MCP_CLIENTS.map((name) => [name, START]));
});

test("a call may take as long as a person needs", () => {
  for (const name of ["claude-code", "codex", "gemini-cli"])
    expect(clientSettings(name).settings).toMatch(/86400(?:000)?\b/);
});
