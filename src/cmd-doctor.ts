import { SCHEMA_NAMES } from "./cmd-table.ts";
import { defineSubcommand, type Io } from "./command.ts";
import { runChecks } from "./doctor.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { findingLines } from "./finding.ts";
import { clientSettings, MCP_CLIENTS } from "./mcp-clients.ts";
import type { Env } from "./paths.ts";

/** `aegis doctor`: checks this host and this user's set-up. */
export const doctor = defineSubcommand({
  name: "doctor",
  description:
    "Checks tools, directories, keys, policy, executor, audit logs and environment, read-only. Exits 8 when a check failed.",
  args: {
    skill: { type: "boolean", description: "print the rules for AI agents instead, as a skill" },
    schema: {
      type: "enum",
      options: [...Object.keys(SCHEMA_NAMES), "all"],
      description: "print the JSON Schema of a document instead, or all by name",
    },
    "mcp-config": {
      type: "enum",
      options: [...MCP_CLIENTS],
      description:
        "print the settings by which this agent starts `aegis daemon --mcp`; with --skill both, and where each belongs",
    },
  },
  async run({ skill, schema, "mcp-config": client }, io) {
    if (schema !== undefined) {
      if (skill || client !== undefined)
        throw new AegisError("usage", "--schema and the agents' rules are two answers; ask for one");
      const { allJsonSchemas } = await import("./cmd-schema.ts");
      const all = allJsonSchemas();
      const found = schema === "all" ? all : (all[schema] ?? {});
      io.result(found, JSON.stringify(found, null, 2));
      return EXIT.ok;
    }
    if (client !== undefined) return await printSettings(client, skill, io);
    if (skill) {
      const text = await skillHere(io.env);
      io.result({ skill: text }, text);
      return EXIT.ok;
    }
    const findings = await runChecks(io.env);
    const failed = findings.filter(({ level }) => level === "fail").length;
    io.result({ healthy: failed === 0, findings }, findingLines(findings, io.terminal));
    return failed === 0 ? EXIT.ok : EXIT.unavailable;
  },
});

async function skillHere(env: Env): Promise<string> {
  const [{ skillText }, { loadPolicyConfig }] = await Promise.all([
    import("./skill.ts"),
    import("./policy-config.ts"),
  ]);
  return await skillText(loadPolicyConfig(env));
}

/** The settings alone can be redirected into their file; with the rules, each part is headed by the name of its file. */
async function printSettings(client: string, withSkill: boolean, io: Io): Promise<ExitStatus> {
  const { title, file, skill_file, settings } = clientSettings(client);
  if (!withSkill) {
    io.result({ client: title, file, settings }, settings.trimEnd());
    return EXIT.ok;
  }
  const rules = await skillHere(io.env);
  io.result(
    { client: title, file, settings, skill_file, skill: rules },
    `==> ${file} <==\n${settings}\n==> ${skill_file} <==\n${rules.trimEnd()}`,
  );
  return EXIT.ok;
}
