import type { ConfiguredRepository } from "./doc-repository.ts";
import { AegisError } from "./errors.ts";

/*
 * The signed command of a change to a repository's file. No package manager has one: Aegis itself writes the file, and the command
 * says which, from which bytes to which.
 */

/** Where the files are. apt's own default; planning refuses a host that is configured otherwise. */
export const SOURCE_PARTS = "/etc/apt/sources.list.d";

/** File names of its own that apt reads: it ignores others, and hidden ones without a word. */
export function repositoryPath(name: string): string {
  return `${SOURCE_PARTS}/${name}.sources`;
}

/** The digests in a command; null for no file. */
export interface RepositoryArgv {
  name: string;
  before: string | null;
  after: string | null;
}

/**
 * `aegis repository add docker sha256:…`, `replace docker sha256:… sha256:…` or `remove docker sha256:…`.
 * @throws AegisError `invalid_document` for a change of nothing into nothing
 */
export function repositoryArgv({
  name,
  before_sha256: before,
  after_sha256: after,
}: Pick<ConfiguredRepository, "name" | "before_sha256" | "after_sha256">): string[] {
  const command = (verb: string, ...digests: string[]) => [
    "aegis",
    "repository",
    verb,
    name,
    ...digests.map((hex) => `sha256:${hex}`),
  ];
  if (before !== null && after !== null) return command("replace", before, after);
  if (after !== null) return command("add", after);
  if (before !== null) return command("remove", before);
  throw new AegisError("invalid_document", "this plan changes no repository");
}

/** Whether a signed command is one of these. */
export function isRepositoryArgv(argv: readonly string[]): boolean {
  return argv[0] === "aegis" && argv[1] === "repository";
}

/** @throws AegisError `argv_mismatch` for anything but what {@link repositoryArgv} gives */
export function readRepositoryArgv(argv: readonly string[]): RepositoryArgv {
  const [, , verb, name = "", ...words] = argv;
  const [first = null, second = null] = words.map(
    (word) => /^sha256:([0-9a-f]{64})$/.exec(word)?.[1] ?? null,
  );
  const read =
    verb === "replace"
      ? { name, before: first, after: second }
      : verb === "add"
        ? { name, before: null, after: first }
        : { name, before: first, after: null };
  const [before_sha256, after_sha256] = [read.before, read.after];
  const again =
    before_sha256 === null && after_sha256 === null
      ? []
      : repositoryArgv({ name, before_sha256, after_sha256 });
  if (again.join("\n") === argv.join("\n")) return read;
  throw new AegisError("argv_mismatch", "the command is not a change of a repository");
}
