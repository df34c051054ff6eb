import { SCHEMA_NAMES } from "./cmd-table.ts";
import { defineSubcommand } from "./command.ts";
import { runChecks } from "./doctor.ts";
import { AegisError, EXIT } from "./errors.ts";
import { findingLines } from "./finding.ts";

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
  },
  async run({ skill, schema }, io) {
    if (schema !== undefined) {
      if (skill) throw new AegisError("usage", "--skill and --schema are two answers; ask for one");
      const { allJsonSchemas } = await import("./cmd-schema.ts");
      const all = allJsonSchemas();
      const found = schema === "all" ? all : (all[schema] ?? {});
      io.result(found, JSON.stringify(found, null, 2));
      return EXIT.ok;
    }
    if (skill) {
      const [{ skillText }, { loadPolicyConfig }] = await Promise.all([
        import("./skill.ts"),
        import("./policy-config.ts"),
      ]);
      const text = await skillText(loadPolicyConfig(io.env));
      io.result({ skill: text }, text);
      return EXIT.ok;
    }
    const findings = await runChecks(io.env);
    const failed = findings.filter(({ level }) => level === "fail").length;
    io.result({ healthy: failed === 0, findings }, findingLines(findings, io.terminal));
    return failed === 0 ? EXIT.ok : EXIT.unavailable;
  },
});
