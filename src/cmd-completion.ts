import { type CompletionTable, completionTable } from "./cmd-completion-table.ts";
import type { Commands } from "./cmd-table.ts";
import { defineSubcommand } from "./command.ts";
import { AegisError, EXIT } from "./errors.ts";

/*
 * Completion for shells, made from the tables that the parser works with. The scripts hold everything: nothing of Aegis runs
 * while a person presses Tab.
 */

const SHELLS = {
  bash: () => import("./cmd-completion-bash.ts").then((m) => m.bashScript),
  zsh: () => import("./cmd-completion-zsh.ts").then((m) => m.zshScript),
  fish: () => import("./cmd-completion-fish.ts").then((m) => m.fishScript),
} as const satisfies Record<string, () => Promise<(table: CompletionTable) => string>>;
export type Shell = keyof typeof SHELLS;
const SHELL_NAMES = Object.keys(SHELLS);

function isShell(word: string): word is Shell {
  return Object.hasOwn(SHELLS, word);
}

/** `aegis completion bash|zsh|fish` */
export const completion = ({ load }: Commands) =>
  defineSubcommand({
    name: "completion",
    description: "Print a completion script for a shell.",
    args: {
      shell: {
        type: "positional",
        required: true,
        complete: SHELL_NAMES,
        description: SHELL_NAMES.join(", "),
      },
    },
    async run({ shell }, io) {
      if (!isShell(shell)) {
        const typed = `aegis completion ${SHELL_NAMES.join(" | ")}`;
        throw new AegisError("usage", `no completion for ${JSON.stringify(shell)}`, `Type: ${typed}`);
      }
      const script = await completionScript(shell, load);
      io.result({ script }, script.trimEnd());
      return EXIT.ok;
    },
  });

/** The script for a shell, with a line feed at its end. */
export async function completionScript(shell: Shell, load: Commands["load"]): Promise<string> {
  const [script, table] = await Promise.all([SHELLS[shell](), completionTable(load)]);
  return script(table);
}
