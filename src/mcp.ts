import { McpServer, ResourceTemplate, type ServerContext } from "@modelcontextprotocol/server";
import { StdioServerTransport, serveStdio } from "@modelcontextprotocol/server/stdio";
import { toStandardJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";
import { messageOf } from "./errors.ts";
import { type CommandAnswer, commandRunner, OUTCOMES, type RunCommand } from "./mcp-self.ts";
import type { AgentTool } from "./mcp-tool.ts";
import { AGENT_TOOLS } from "./mcp-tools.ts";
import type { Env } from "./paths.ts";
import { VERSION } from "./self.ts";
import { clip, safe } from "./terminal.ts";

/*
 * `aegis daemon --mcp`: the Model Context Protocol over standard input and output, for one agent. The server runs as its user and
 * holds no privilege and no state; each tool is a command of this program. https://modelcontextprotocol.io/specification
 */

/** Limit on one message of a client, in bytes. */
const MAX_MESSAGE = 1024 * 1024;
/** Time between two signs of life of a long call, below the time after which common clients give up. */
const ALIVE_MS = 10_000;

const INSTRUCTIONS =
  "Changes of packages on this host go through Aegis: plan, policy, request; a person approves. A refusal is a result: report it. Nothing here approves. The rules: resource aegis://skill.";

/** What every tool answers. `result` is null where the command failed; `error` then says why and what to do. */
const answerSchema = (result: AgentTool["result"]) =>
  v.strictObject({
    outcome: v.picklist(OUTCOMES),
    exit_status: v.number(),
    error: v.nullable(v.strictObject({ code: v.string(), message: v.string(), hint: v.string() })),
    result: v.nullable(result),
  });

/**
 * A schema as the client sees it. Checks that JSON Schema can't express, such as that a timestamp is a real date, are left out there and
 * made here.
 */
function told<S extends v.GenericSchema>(schema: S) {
  const { "~standard": standard } = toStandardJsonSchema(schema);
  const { input, output } = standard.jsonSchema;
  const lenient = (convert: typeof input) => (options: Parameters<typeof input>[0]) =>
    convert({ ...options, libraryOptions: { errorMode: "ignore" } });
  return { "~standard": { ...standard, jsonSchema: { input: lenient(input), output: lenient(output) } } };
}

/** Ends the service too when it closes, as it does at the end of input and after a message that is too long. */
class Stdio extends StdioServerTransport {
  readonly #ended: () => void;

  constructor(ended: () => void) {
    super(process.stdin, process.stdout, { maxBufferSize: MAX_MESSAGE });
    this.#ended = ended;
  }

  override async close(): Promise<void> {
    await super.close();
    this.#ended();
  }
}

/** Serves one client on standard input and output until that ends, or sends what can't be a message. */
export function serveMcp(env: Env): Promise<void> {
  const run = commandRunner(env);
  const stopping = new AbortController();
  return new Promise((resolve) => {
    const transport = new Stdio(() => {
      stopping.abort();
      resolve();
    });
    serveStdio(() => makeServer(run, stopping.signal), {
      transport,
      onerror: (error) => process.stderr.write(`aegis: ${oneLine(messageOf(error))}\n`),
    });
  });
}

/** A client's messages may be quoted in an error. */
function oneLine(message: string): string {
  return safe(clip(message.replace(/\s+/g, " "), 300));
}

/** A server with every tool and resource. `run` runs a command of this program; `stopping` ends those at work. */
export function makeServer(run: RunCommand, stopping: AbortSignal): McpServer {
  const server = new McpServer({ name: "aegis", version: VERSION }, { instructions: INSTRUCTIONS });
  for (const [name, tool] of Object.entries(AGENT_TOOLS)) addTool(server, name, tool, run, stopping);
  const read = async (
    uri: URL,
    words: readonly string[],
    mimeType: string,
    pick?: (document: object) => string,
  ) => {
    const { document, error } = await run(words, { timeoutMs: 60_000, signal: stopping });
    if (document === null) throw new Error(`${error?.message ?? "no document"}. ${error?.hint ?? ""}`);
    return { contents: [{ uri: uri.href, mimeType, text: pick?.(document) ?? JSON.stringify(document) }] };
  };
  server.registerResource(
    "skill",
    "aegis://skill",
    { title: "Rules for agents", mimeType: "text/markdown" },
    (uri) => read(uri, ["doctor", "--skill"], "text/markdown", (document) => skillIn(document)),
  );
  server.registerResource(
    "policy",
    "aegis://policy",
    { title: "The policy's rules and configuration", mimeType: "application/json" },
    (uri) => read(uri, ["policy", "rules"], "application/json"),
  );
  server.registerResource(
    "plan",
    new ResourceTemplate("aegis://plan/{plan_id}", { list: undefined }),
    { title: "A whole plan", mimeType: "application/json" },
    (uri, { plan_id }) => read(uri, ["plan", "show", "--", `${plan_id}`], "application/json"),
  );
  return server;
}

function skillIn(document: object): string {
  return v.parse(v.object({ skill: v.string() }), document).skill;
}

function addTool(
  server: McpServer,
  name: string,
  tool: AgentTool,
  run: RunCommand,
  stopping: AbortSignal,
): void {
  const { title, description, writes, command } = tool;
  server.registerTool(
    name,
    {
      ...{ title, description },
      inputSchema: told(tool.input),
      outputSchema: told(answerSchema(tool.result)),
      // A plan is made of what the world outside has at this moment, so a second call makes another one.
      annotations: {
        readOnlyHint: !writes,
        destructiveHint: false,
        idempotentHint: !writes,
        openWorldHint: writes,
      },
    },
    async (given, context) => {
      const { timeoutMs, words } = tool.call(given);
      const signal = AbortSignal.any([context.mcpReq.signal, stopping]);
      const quiet = sayAlive(context, name);
      try {
        return toolResult(tool, await run([...command.split(" "), ...words], { timeoutMs, signal }));
      } finally {
        quiet();
      }
    },
  );
}

/** Reports progress to a client that asked for it, so that it doesn't take a long wait for a dead server. */
function sayAlive(context: ServerContext, name: string): () => void {
  const progressToken = context.mcpReq._meta?.progressToken;
  if (progressToken === undefined) return () => {};
  let progress = 0;
  const timer = setInterval(() => {
    progress++;
    const params = {
      progressToken,
      progress,
      message: `${name}: at work since ${(progress * ALIVE_MS) / 1000} s`,
    };
    context.mcpReq.notify({ method: "notifications/progress", params }).catch(() => clearInterval(timer));
  }, ALIVE_MS);
  return () => clearInterval(timer);
}

/** Refusals are answers. Only what says nothing about the change is an error of the tool. */
function toolResult(tool: AgentTool, { document, ...answer }: CommandAnswer) {
  const structuredContent = { ...answer, result: document === null ? null : tool.pick(document) };
  const isError =
    ["internal_fault", "usage_error", "unavailable", "stopped"].includes(answer.outcome) && document === null;
  return {
    content: [{ type: "text" as const, text: JSON.stringify(structuredContent) }],
    structuredContent,
    isError,
  };
}
