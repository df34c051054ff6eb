import { closeSync, existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import { bringsBack } from "./doc-evidence.ts";
import { BUILD_FILES, DECISION, readBuildReceipt, readRefusal } from "./eco-build-receipt.ts";
import type { BuildRun } from "./eco-build-run.ts";
import { compareInventories, compareRestored } from "./eco-compare.ts";
import { type CredentialsOf, registryCredentials } from "./eco-credentials.ts";
import type { HostState, RunDriver } from "./eco-driver.ts";
import { isExchanged, managedPlaces, prepareManaged, sweepStages } from "./eco-exchange.ts";
import { fetchFiles, filesOf } from "./eco-fetch.ts";
import type { FetchAccess, ManagedStore, ManagedTool } from "./eco-managed.ts";
import { type SandboxLimits, trySandboxUnit } from "./eco-sandbox.ts";
import { managedLimits } from "./eco-sandbox-limits.ts";
import { namespaced, neededProgram } from "./eco-sandbox-namespaces.ts";
import { LISTEN, type SandboxUnits, sandboxUnits } from "./eco-sandbox-unit.ts";
import { readRoot, treeReader } from "./eco-stage.ts";
import { isRollbackArgv, rollbackArgv } from "./eco-undo.ts";
import { AegisError, messageOf } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { type Account, accountOf, unusedId } from "./sys-account.ts";
import { isFlocked } from "./sys-ffi.ts";
import { createFileExclusive, namesIn, readText } from "./sys-files.ts";
import { resolveProgram, run } from "./sys-spawn.ts";
import { USERS, userIds } from "./sys-state.ts";

/*
 * The run driver of every ecosystem with a managed root: fetch, confined build, comparison, exchange.
 */

const LIMIT_MS = 60 * 60_000;
const MAX_NAMESPACES = "/proc/sys/user/max_user_namespaces";
/** A refusal, and a line of output. */
const RESERVE_BYTES = 16 * 1024;

/** What tests replace. */
export interface ManagedHost {
  /** The directory of managed roots. */
  state: string;
  /** The user as whom tools run. */
  user: string;
  limits: SandboxLimits;
  /** Credentials of registries. */
  credentials: CredentialsOf;
  /** The sockets of systemd's units that confine. */
  units(): SandboxUnits;
}

const THIS_HOST: ManagedHost = {
  state: SYSTEM.state,
  user: USERS.build,
  limits: managedLimits(availableParallelism()),
  credentials: registryCredentials(),
  units: sandboxUnits,
};

export function managedDriver(tool: ManagedTool, host: Partial<ManagedHost> = {}): RunDriver {
  const { state, user, limits, credentials, units } = { ...THIS_HOST, ...host };
  const places = managedPlaces(state, tool.root);
  const confining = (): Confining => {
    const { build, unpack, fetch } = units();
    return tool.store === undefined
      ? { name: "aegis-build.socket", sandbox: build, fetch }
      : { name: "aegis-unpack.socket", sandbox: unpack, fetch };
  };
  const observe = (): HostState => {
    if (!existsSync(places.root)) return {};
    const tree = readRoot(places.root, withoutWhole(tool.store));
    try {
      return tool.inventory(tree, treeReader(places.root, tree));
    } catch (error) {
      // Whoever changes it by hand may leave records that nobody can read.
      throw new AegisError(
        "refused",
        `the records of ${places.root} can't be read: ${messageOf(error)}; no run of Aegis left them so`,
        `Put the directory back as it was, or, as root, move it away; then install again: mv ${places.root} ${places.root}.broken`,
      );
    }
  };
  const sweep = (directory: string) =>
    sweepStages(state, (execution) => readBuildReceipt(join(dirname(directory), execution)));
  const claimStop = (directory: string) =>
    createFileExclusive(join(directory, BUILD_FILES.decision), DECISION.stopped);
  return {
    user,
    isSupervised: true,
    roots: [places.root],
    hold: () => Promise.resolve(null),
    async ready(plan) {
      tool.store?.ready(places.root);
      if (bringsBack(plan)) return;
      await refuseUnconfined(confining(), tool.store !== undefined);
    },

    async prepare(plan, argv, { directory, archives, aegis, account }, { stop, alive, progress }) {
      if (account === null) throw new AegisError("internal", "a build needs a user other than root");
      const undoes = bringsBack(plan);
      // The executor has compared the signed argv with the plan. This is what the supervisor goes by.
      if (undoes && argv.join("\n") !== rollbackArgv(tool.tool, tool.root, plan.targets[0] ?? "").join("\n"))
        throw new AegisError("argv_mismatch", "the command is not the rollback of the plan's execution");
      const program = undoes ? aegis : resolveProgram(argv[0] ?? "");
      if (program === null) throw new AegisError("unavailable", `${argv[0]} is not installed`);
      const files = undoes ? [] : filesOf(plan, archives);
      mkdirSync(directory, { mode: 0o700 });
      mkdirSync(join(directory, BUILD_FILES.sandbox), { mode: 0o700 });
      prepareManaged(places, tool.store !== undefined);
      sweep(directory);
      const fetcher = fetchAccount();
      const { sandbox, fetch } = confining();
      let shown = -1;
      await fetchFiles(files, archives, {
        aegis,
        unit: fetch,
        account: fetcher,
        root: join(directory, BUILD_FILES.sandbox),
        reached:
          tool.reach === undefined || files.length === 0
            ? withCredentials(tool.access?.(readText), credentials)
            : await tool.reach(files, { readText, list: namesIn, credentials, stop }),
        progress: (done, of) => {
          alive();
          const percent = Math.floor((done / Math.max(of, 1)) * 100);
          if (percent > shown) progress(percent, `fetched ${done} of ${of} bytes`);
          shown = Math.max(shown, percent);
        },
        stop,
      });
      const text = canonicalJson({
        ...{
          plan,
          argv: [...argv],
          program,
          aegis,
          files: archives,
          state,
          account,
          registry: fetcher,
          unit: sandbox,
          limits,
        },
      } satisfies BuildRun);
      writeFileSync(join(directory, BUILD_FILES.run), text, { mode: 0o600, flag: "wx" });
      writeFileSync(join(directory, BUILD_FILES.reserve), Buffer.alloc(RESERVE_BYTES), { mode: 0o600 });
      return {
        ...{ directory, program: aegis, environment: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" }, cwd: "/" },
        arguments: ["daemon", "--build", directory],
        facts: { build_sha256: sha256Hex(text) },
      };
    },

    observe,
    progress(line) {
      const [, percent, message] = /^(\d+) (.*)$/.exec(line) ?? [];
      return message === undefined ? null : { percent: Number(percent), message };
    },
    mayStop: claimStop,
    wasStopped: (directory) =>
      readText(join(directory, BUILD_FILES.decision)) === DECISION.stopped
        ? "before anything was changed"
        : null,
    limitMs: () => LIMIT_MS,
    isAlive: (directory) =>
      [BUILD_FILES.alive, BUILD_FILES.inside].some((name) => isHeld(join(directory, name))),
    settle(directory) {
      // A supervisor that its runner did not live to record may only be starting now: it must not exchange what is closed here.
      if (existsSync(directory)) claimStop(directory);
      sweep(directory);
    },
    witness(directory) {
      const receipt = readBuildReceipt(directory);
      // Also if keeping the previous content or linking the commands failed after it: the new content is in place.
      if (receipt !== null && isExchanged(receipt, places))
        return {
          verdict: "vouched",
          executables: receipt.executables,
          content: { before: receipt.tree_before, after: receipt.tree_after },
        };
      const refusal = readRefusal(directory);
      if (refusal !== null) return { verdict: "refused", ...refusal };
      return { verdict: "absent", reason: `${places.root} was not exchanged and is as it was` };
    },
    left(directory) {
      const receipt = readBuildReceipt(directory);
      if (receipt === null || receipt.left === null || !isExchanged(receipt, places)) return null;
      return { managed_root: receipt.left };
    },
    compare({ argv, transaction }, before, after) {
      if (isRollbackArgv(argv)) return compareRestored({ argv, transaction }, before, after);
      const recorded = transaction.filter(
        (one) => !tool.recordsRequestedOnly || one.required_by === undefined,
      );
      return compareInventories({ argv, transaction: recorded }, before, after);
    },
    watchBesides: () => () => [],
    advice: () => Promise.resolve({ text: "", facts: {} }),
  };
}

/** The sockets of the units for a tool; null where there is none. */
interface Confining {
  /** Of the first one's unit. */
  name: string;
  sandbox: string | null;
  fetch: string | null;
}

/** @throws AegisError `unavailable` where a sandbox can't be made, found out by starting the unit or by making its namespaces */
async function refuseUnconfined({ name, sandbox, fetch }: Confining, needsUsers: boolean): Promise<void> {
  for (const program of ["unshare", "setpriv", "prlimit", ...(needsUsers ? ["flock"] : [])])
    neededProgram(program);
  if (needsUsers && readText(MAX_NAMESPACES)?.trim() === "0")
    throw new AegisError(
      "unavailable",
      "this host makes no user namespaces, without which the tool can't be confined",
      "Type as root: sysctl user.max_user_namespaces=10000",
    );
  // One of them alone would confine one half by the unit and the other one differently.
  if ((sandbox === null) !== (fetch === null))
    throw new AegisError(
      "unavailable",
      `${sandbox === null ? name : "aegis-fetch.socket"} doesn't listen`,
      LISTEN,
    );
  if (sandbox !== null) {
    await trySandboxUnit(sandbox);
    return;
  }
  const [program, args] = namespaced(false, [neededProgram("true")]);
  const result = await run(program, args, {
    ...{ env: { PATH: "/usr/bin:/bin" }, cwd: "/", timeoutMs: 10_000, maxBytes: 10_000 },
  });
  if (result.outcome === "exited" && result.status === 0) return;
  const why = result.stderr.toString("utf8").trim().slice(0, 300);
  throw new AegisError(
    "unavailable",
    `tools can't be confined here, and don't run otherwise: ${why || `status ${result.status}`}`,
    LISTEN,
  );
}

/** A store in which what is taken whole is passed over: the records that an inventory is made from are beside it. */
function withoutWhole(store: ManagedStore | undefined): ManagedStore | undefined {
  if (store === undefined) return undefined;
  return { ...store, isPassing: (path) => store.isPassing(path) || store.isWhole(path) };
}

/** As whom to fetch. Not `nobody`, whose processes could look into it. */
function fetchAccount(): Account {
  if (userIds(USERS.fetch) !== null) {
    const found = accountOf(USERS.fetch);
    if (found !== null) return found;
  }
  const id = unusedId();
  return { name: USERS.fetch, uid: id, gid: id };
}

function withCredentials(
  access: ((url: URL) => FetchAccess) | undefined,
  credentials: CredentialsOf,
): (url: URL) => FetchAccess {
  return (url) => {
    const { headers, ...rest } = access?.(url) ?? {};
    return { ...rest, headers: { ...headers, ...credentials(url) } };
  };
}

/** Whether a living process holds the lock on a file. */
function isHeld(path: string): boolean {
  if (!existsSync(path)) return false;
  const fd = openSync(path, "r");
  try {
    return isFlocked(fd);
  } finally {
    closeSync(fd);
  }
}
