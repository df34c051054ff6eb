import { aptGrammar } from "./apt-grammar.ts";
import type { Tool } from "./doc-plan.ts";
import type { Grammar } from "./eco-grammar.ts";
import { npmGrammar } from "./npm-target.ts";

/** Grammars by the tool that plans name: all that policy needs. An ecosystem that is missing is not built, and is allowed nothing. */
export type Grammars = Readonly<Partial<Record<Tool, { grammar: Grammar }>>>;

/** `load` returns the whole ecosystem. Its type is checked in eco-load.ts, so that policy's sources don't include planning and running. */
type Table = Readonly<Partial<Record<Tool, { grammar: Grammar; load: () => Promise<Grammar> }>>>;

/**
 * Every ecosystem that can be planned, one line each. The grammars are loaded at once, since policy judges with them and they are
 * part of `evaluator_hash`; planning and running are loaded when they are needed, and are not part of it (policy-hash.ts).
 */
export const TABLE = {
  apt: { grammar: aptGrammar, load: async () => (await import("./apt.ts")).apt },
  npm: { grammar: npmGrammar, load: async () => (await import("./npm.ts")).npm },
} as const satisfies Table;
