import { aptGrammar } from "./apt-grammar.ts";
import type { Tool } from "./doc-plan.ts";
import type { Grammar } from "./eco-grammar.ts";
import { goGrammar } from "./go-target.ts";
import { npmGrammar } from "./npm-target.ts";

/** Grammars by the tool that plans name: all that policy needs. An ecosystem that is missing is not built, and is allowed nothing. */
export type Grammars = Readonly<Partial<Record<Tool, { grammar: Grammar }>>>;

/**
 * What a tool calls back during a run, as root (`aegis daemon --hook`): gets the run's directory and what the tool wrote to its
 * standard input, and returns the exit status, where 1 makes the tool refuse. `note` writes a line for the tool's output.
 */
export type RunHook = (directory: string, input: string, note: (line: string) => void) => 0 | 1;

interface Entry {
  grammar: Grammar;
  /** Returns the whole ecosystem. Its type is checked in eco-load.ts, so that policy's sources don't include planning and running. */
  load: () => Promise<Grammar>;
  /** For a tool that calls back; apart from `load`, since the tool waits for it. */
  hook?: () => Promise<RunHook>;
}

/**
 * Every ecosystem that can be planned, one line each. The grammars are loaded at once, since policy judges with them and they are
 * part of `evaluator_hash`; planning and running are loaded when they are needed, and are not part of it (policy-hash.ts).
 */
export const TABLE = {
  apt: {
    grammar: aptGrammar,
    load: async () => (await import("./apt.ts")).apt,
    hook: async () => (await import("./apt-hook.ts")).runAptHook,
  },
  go: { grammar: goGrammar, load: async () => (await import("./go.ts")).go },
  npm: { grammar: npmGrammar, load: async () => (await import("./npm.ts")).npm },
} as const satisfies Readonly<Partial<Record<Tool, Entry>>>;
