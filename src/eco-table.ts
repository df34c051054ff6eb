import { aptGrammar } from "./apt-grammar.ts";
import { cargoGrammar } from "./cargo-target.ts";
import type { Tool } from "./doc-plan.ts";
import type { Grammar } from "./eco-grammar.ts";
import { goGrammar } from "./go-target.ts";
import { imageGrammar } from "./image-target.ts";
import { npmGrammar } from "./npm-target.ts";
import { nugetGrammar } from "./nuget-target.ts";
import { pipGrammar } from "./pip-target.ts";
import { servicesGrammar } from "./services-grammar.ts";
import { vscodeGrammar } from "./vscode-target.ts";

/** Grammars by a plan's `tool`: all that policy needs. A missing ecosystem is not built and allowed nothing. */
export type Grammars = Readonly<Partial<Record<Tool, { grammar: Grammar }>>>;

/**
 * The hook that a tool calls during a run, as root (`aegis daemon --hook`). Gets the run's directory and the tool's input, and
 * returns the exit status; 1 makes the tool refuse. `note` writes a line to the tool's output.
 */
export type RunHook = (directory: string, input: string, note: (line: string) => void) => 0 | 1;

interface Entry {
  grammar: Grammar;
  /** Loads the whole ecosystem. Its full type is checked in eco-load.ts, so that policy's sources exclude planning and running. */
  load: () => Promise<Grammar>;
  /** For a tool with a managed root, whose supervisor loads only this. Its type is checked in eco-load.ts too. */
  managed?: () => Promise<object>;
  /** For a tool that calls back. Separate from `load` for speed, since the tool waits for it. */
  hook?: () => Promise<RunHook>;
}

/**
 * Every ecosystem that can be planned, one line each. The grammars are imported statically, since policy uses them and they
 * are part of `evaluator_hash`; planning and running are loaded on demand and are not part of it (policy-hash.ts).
 */
export const TABLE = {
  apt: {
    grammar: aptGrammar,
    load: async () => (await import("./apt.ts")).apt,
    hook: async () => (await import("./apt-hook.ts")).runAptHook,
  },
  cargo: {
    grammar: cargoGrammar,
    load: async () => (await import("./cargo.ts")).cargo,
    managed: async () => (await import("./cargo-managed.ts")).cargoManaged,
  },
  container: {
    grammar: imageGrammar,
    load: async () => (await import("./image.ts")).image,
    managed: async () => (await import("./image-podman.ts")).podmanManaged,
  },
  go: {
    grammar: goGrammar,
    load: async () => (await import("./go.ts")).go,
    managed: async () => (await import("./go-managed.ts")).goManaged,
  },
  npm: {
    grammar: npmGrammar,
    load: async () => (await import("./npm.ts")).npm,
    managed: async () => (await import("./npm-managed.ts")).npmManaged,
  },
  nuget: {
    grammar: nugetGrammar,
    load: async () => (await import("./nuget.ts")).nuget,
    managed: async () => (await import("./nuget-managed.ts")).nugetManaged,
  },
  pip: {
    grammar: pipGrammar,
    load: async () => (await import("./pip.ts")).pip,
    managed: async () => (await import("./pip-managed.ts")).pipManaged,
  },
  services: {
    grammar: servicesGrammar,
    load: async () => (await import("./services.ts")).services,
  },
  vscode: {
    grammar: vscodeGrammar,
    load: async () => (await import("./vscode.ts")).vscode,
    managed: async () => (await import("./vscode-managed.ts")).vscodeManaged,
  },
} as const satisfies Readonly<Partial<Record<Tool, Entry>>>;
