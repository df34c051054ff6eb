import type { Tool } from "./doc-plan.ts";

/** The names of ecosystems on the command line, and the `tool` of their plans. */
export const ECOSYSTEM_NAMES = {
  apt: "apt",
  npm: "npm",
  pip: "pip",
  docker: "container",
  podman: "container",
  container: "container",
  nuget: "nuget",
  vscode: "vscode",
  go: "go",
  cargo: "cargo",
  services: "services",
} as const satisfies Readonly<Record<string, Tool>>;

export type EcosystemName = keyof typeof ECOSYSTEM_NAMES;

/** Whether a word is the name of an ecosystem, built or not. */
export function isEcosystemName(word: string): word is EcosystemName {
  return Object.hasOwn(ECOSYSTEM_NAMES, word);
}

/** The package managers for which `aegis daemon install --wrappers` links this program. */
export const WRAPPER_NAMES = [
  "apt",
  "apt-get",
  "apt-mark",
  "aptitude",
  "npm",
  "pip",
  "pip3",
  "docker",
  "podman",
  "nuget",
  "code",
  "code-server",
  "go",
  "cargo",
] as const;

export type WrapperName = (typeof WRAPPER_NAMES)[number];

/** Whether this program was called by the name of a package manager. */
export function isWrapperName(program: string): program is WrapperName {
  return WRAPPER_NAMES.some((name) => name === program);
}
