import { aptGrammar } from "./apt-grammar.ts";
import type { Tool } from "./doc-plan.ts";
import type { Grammar } from "./eco-grammar.ts";
import { npmGrammar } from "./npm-target.ts";

/** Grammars by the tool that plans name. An ecosystem that is missing is not built, and is allowed nothing. */
export type Grammars = Readonly<Partial<Record<Tool, Grammar>>>;

/**
 * Every ecosystem that can be planned. Adding one is one line here; the compiler then asks for its other half in eco-table.ts.
 * Policy needs no more than this, so a program that only judges holds nothing that plans or runs.
 */
export const GRAMMARS = { apt: aptGrammar, npm: npmGrammar } as const satisfies Grammars;
