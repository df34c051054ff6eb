import { lstatSync } from "node:fs";
import { resolve } from "node:path";
import { canonicalHash, type Json } from "./canonical.ts";
import { defineSubcommand } from "./command.ts";
import { EXIT } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { parsePolicyConfig, policyConfigHash, policyProblems } from "./policy-config.ts";
import { readFileLimited, rootOnlyProblem, typedPath } from "./sys-files.ts";
import type { TomlProblem } from "./sys-toml.ts";
import { fit, paint, plural, safe, type Terminal } from "./terminal.ts";

const MAX_BYTES = 256 * 1024;

/** A setting that differs from the default. */
interface Difference {
  setting: string;
  value: Json;
  default: Json;
}

interface Checked {
  file: string;
  valid: boolean;
  problems: TomlProblem[];
  /** What doesn't make the file unusable as it is named here. */
  warnings: string[];
  differences: Difference[];
  /** Null for a file with mistakes. */
  policy_config_hash: string | null;
}

/** `aegis policy check <file>`: every mistake in a policy file with its place, and what the file changes. Exits 2 for a mistake. */
export const policyCheck = defineSubcommand({
  name: "policy check",
  description:
    "Check a policy file: every mistake with its line and column, who can write it, and which settings differ from the defaults. Exits 2 if it can't be used.",
  args: {
    file: {
      type: "positional",
      required: true,
      complete: "file",
      description: `a policy file, or - for standard input; the executor's is ${SYSTEM.policy}`,
    },
  },
  async run({ file }, io) {
    const data =
      file === "-" ? Buffer.from(await io.readStdin()) : typedPath(() => readFileLimited(file, MAX_BYTES));
    const name = file === "-" ? "standard input" : file;
    const { problems: access, warnings } =
      file === "-" ? { problems: [], warnings: [] } : accessOf(resolve(file));
    const problems = [...access, ...policyProblems(data)];
    const config = problems.length > access.length ? null : parsePolicyConfig(data, name);
    const checked: Checked = {
      file: name,
      valid: problems.length === 0,
      problems,
      warnings,
      differences: config === null ? [] : differencesOf(config, parsePolicyConfig("", "built-in")),
      policy_config_hash: config === null ? null : policyConfigHash(config),
    };
    io.result(checked, render(checked, io.terminal));
    return checked.valid ? EXIT.ok : EXIT.usage;
  },
});

/** Who can write the file. For the executor's it is a mistake if others than root can, elsewhere worth knowing. */
function accessOf(path: string): { problems: TomlProblem[]; warnings: string[] } {
  if (path === SYSTEM.policy) {
    const problem = rootOnlyProblem(path);
    const hidden =
      (lstatSync(path).mode & 0o004) === 0 ? ["the front can't read it; it holds no secret: chmod 644"] : [];
    const found = [...(problem === null ? [] : [problem]), ...hidden];
    return { problems: found.map((message) => ({ line: null, column: null, message })), warnings: [] };
  }
  const { uid, mode } = lstatSync(path);
  const own = process.geteuid?.();
  const others =
    (mode & 0o022) === 0 ? [] : ["others than its owner can write it, and so decide what is allowed"];
  const owner = uid === own || uid === 0 ? [] : [`it belongs to another user (uid ${uid})`];
  return { problems: [], warnings: [...others, ...owner] };
}

/** The settings that differ, by their names in the file. */
function differencesOf(config: object, standard: object, prefix = ""): Difference[] {
  return Object.entries(config).flatMap(([name, value]: [string, Json]) => {
    const setting = `${prefix}${name}`;
    const usual: Json = Object.entries(standard).find(([other]) => other === name)?.[1] ?? null;
    if (typeof value === "object" && value !== null && !Array.isArray(value) && usual !== null)
      return differencesOf(value, Object(usual), `${setting}.`);
    return canonicalHash(value) === canonicalHash(usual) ? [] : [{ setting, value, default: usual }];
  });
}

function render(
  { file, valid, problems, warnings, differences, policy_config_hash }: Checked,
  terminal: Terminal,
): string {
  const name = safe(file);
  const lines = [
    valid
      ? `✓ ${name} can be used`
      : paint(terminal, "red", `✘ ${name}: ${plural(problems.length, "mistake")}`),
    ...problems.map(({ line, column, message }) => {
      const place = line === null ? "" : `${line}:${column}: `;
      return `  ${place}${safe(message)}`;
    }),
    ...warnings.map((text) => `  ! ${safe(text)}`),
    ...(policy_config_hash === null
      ? []
      : [
          differences.length === 0
            ? "Every setting is the default."
            : `${plural(differences.length, "setting differs", "settings differ")} from the default:`,
          ...differences.map(
            ({ setting, value, default: usual }) =>
              `  ${safe(setting)} = ${safe(JSON.stringify(value))}  (default ${safe(JSON.stringify(usual))})`,
          ),
          `Hash ${policy_config_hash}`,
        ]),
  ];
  return lines.flatMap((line) => fit(terminal, line, "    ")).join("\n");
}
