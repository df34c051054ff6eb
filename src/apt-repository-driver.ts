import { randomUUID } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readRepositoryArgv, repositoryPath, SOURCE_PARTS } from "./apt-repository-argv.ts";
import {
  changedPath,
  fileState,
  REPOSITORY_DECISION,
  REPOSITORY_FILES,
  readChange,
  readWriteRefusal,
  sweepTemporary,
  type WrittenChange,
} from "./apt-repository-write.ts";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import type { HostState, RunDriver } from "./eco-driver.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { createFileExclusive, namesIn, readText, rootOnlyProblem } from "./sys-files.ts";
import { processesWith } from "./sys-process.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The run driver of a change to a repository's file. No package manager runs: the supervised process is Aegis itself, which writes
 * the file that was signed.
 */

const LIMIT_MS = 60_000;
/** A refusal, and a line of output. */
const RESERVE_BYTES = 16 * 1024;
/** Tells the run's process from others, should its runner die before it is recorded. */
const RUN_VARIABLE = "RUN_OF_REPOSITORY";

export const aptRepositoryDriver: RunDriver = repositoryDriver(SOURCE_PARTS);

/** `parts`: the directory of source files, which tests replace. */
export function repositoryDriver(parts: string): RunDriver {
  const pathOf = (name: string) => changedPath({ directory: parts, name });
  const claimStop = (directory: string) =>
    createFileExclusive(join(directory, REPOSITORY_FILES.decision), REPOSITORY_DECISION.stopped);
  const changeIn = (directory: string): WrittenChange | null => {
    try {
      return readChange(directory);
    } catch {
      return null;
    }
  };
  return {
    user: "root",
    isSupervised: true,
    roots: ["/etc"],
    hold: () => Promise.resolve(null),

    async ready({ repository }) {
      const problem = parts === SOURCE_PARTS ? rootOnlyProblem(parts) : null;
      if (problem !== null)
        throw new AegisError("unavailable", `${problem}, so others could change what apt trusts`);
      refuseUnwritable(parts);
      const state = repository === undefined ? null : fileState(pathOf(repository.name), ownUid());
      if (state === null || /^sha256:[0-9a-f]{64}$/.test(state)) return;
      throw new AegisError(
        "unavailable",
        `${repository?.path} is not root's own file: ${state}`,
        `Look at it: ls -l ${parts}`,
      );
    },

    async prepare({ repository }, argv, { directory, archives, aegis }) {
      const signed = readRepositoryArgv(argv);
      const digest = (text: string | null) => (text === null ? null : sha256Hex(text));
      const { name, before = null, after = null } = repository ?? {};
      // The executor has compared the plan with its own, and the command with the plan. This is what is written.
      if (name !== signed.name || digest(before) !== signed.before || digest(after) !== signed.after)
        throw new AegisError("argv_mismatch", "the command is not the change of the plan's repository");
      mkdirSync(directory, { mode: 0o700 });
      mkdirSync(archives, { mode: 0o700 });
      const text = canonicalJson({ name, before, after, directory: parts } satisfies WrittenChange);
      writeFileSync(join(directory, REPOSITORY_FILES.change), text, { mode: 0o600, flag: "wx" });
      writeFileSync(join(directory, REPOSITORY_FILES.reserve), Buffer.alloc(RESERVE_BYTES), { mode: 0o600 });
      return {
        ...{ directory, program: aegis, cwd: "/" },
        arguments: ["daemon", "--repository", directory],
        environment: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", [RUN_VARIABLE]: directory },
        facts: { repository_sha256: sha256Hex(text) },
      };
    },

    /** Every source file, so that a change of another one during the run shows. */
    observe(): HostState {
      const files = namesIn(parts).filter((name) => !name.startsWith("."));
      return Object.fromEntries(
        files.flatMap((name) => {
          const state = fileState(join(parts, name), ownUid());
          return state === null ? [] : [[join(parts, name), state]];
        }),
      );
    },
    progress: () => null,
    mayStop: claimStop,
    wasStopped: (directory) =>
      readText(join(directory, REPOSITORY_FILES.decision)) === REPOSITORY_DECISION.stopped
        ? "before anything was changed"
        : null,
    limitMs: () => LIMIT_MS,
    isAlive: (directory) => processesWith(RUN_VARIABLE, directory, ["aegis"]).length > 0,
    settle(directory) {
      const change = changeIn(directory);
      if (change === null) return;
      // A writer that its runner did not live to record may only be starting now: it must not change what is closed here.
      claimStop(directory);
      sweepTemporary(change);
    },

    witness(directory, { argv }) {
      const { name, before, after } = readRepositoryArgv(argv);
      const change = changeIn(directory);
      const isThere = fileState(pathOf(name), ownUid()) === wanted(after);
      const isDecided = readText(join(directory, REPOSITORY_FILES.decision)) === REPOSITORY_DECISION.exchange;
      if (isThere && isDecided && change !== null)
        return {
          verdict: "vouched",
          repository: { name, before: before === null ? null : change.before, after_sha256: after },
        };
      const refusal = readWriteRefusal(directory);
      if (refusal !== null) return { verdict: "refused", ...refusal };
      return { verdict: "absent", reason: `${repositoryPath(name)} was not changed` };
    },

    /** For the monitor, which takes such a file for what it is. */
    left(directory) {
      const change = changeIn(directory);
      if (change === null || fileState(pathOf(change.name), ownUid()) !== stateOf(change.after)) return null;
      return { repository_left: { path: pathOf(change.name), state: stateOf(change.after) } };
    },

    compare({ argv }, before, after) {
      const { name, after: digest } = readRepositoryArgv(argv);
      const path = pathOf(name);
      const [was, is] = [stateAt(before, path), stateAt(after, path)];
      const others = [...new Set([...Object.keys(before), ...Object.keys(after)])]
        .filter((key) => key !== path && stateAt(before, key) !== stateAt(after, key))
        .sort();
      const difference = (key: string, expected: string | null) => ({
        ...{ package: key, architecture: "all", expected, found: stateAt(after, key) },
      });
      return {
        not_as_planned: is === wanted(digest) ? [] : [difference(path, wanted(digest))],
        changed_besides: others.map((key) => difference(key, stateAt(before, key))),
        inverse: was === is ? [] : [{ package: path, architecture: "all", before: was, left: is }],
      };
    },
    watchBesides: () => () => [],
    advice: () => Promise.resolve({ text: "", facts: {} }),
  };
}

function stateOf(text: string | null): string | null {
  return text === null ? null : `sha256:${sha256Hex(text)}`;
}

function wanted(digest: string | null): string | null {
  return digest === null ? null : `sha256:${digest}`;
}

function stateAt(state: HostState, key: string): string | null {
  return Object.hasOwn(state, key) ? (state[key] ?? null) : null;
}

function ownUid(): number {
  return process.getuid?.() ?? 0;
}

/** A directory that is read-only or immutable is found out before anything is used up. */
function refuseUnwritable(parts: string): void {
  const probe = join(parts, `.aegis.sources.${randomUUID()}.aegis`);
  try {
    writeFileSync(probe, "", { flag: "wx", mode: 0o600 });
    rmSync(probe);
  } catch (error) {
    throw new AegisError(
      "unavailable",
      `${parts} can't be written: ${errnoOf(error)}`,
      `Look at it as root: findmnt -T ${parts}; lsattr -d ${parts}`,
    );
  }
}
