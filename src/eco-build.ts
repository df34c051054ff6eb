import { appendFileSync, chmodSync, closeSync, mkdirSync, openSync, rmSync, statfsSync } from "node:fs";
import { basename, join } from "node:path";
import { bringsBack } from "./doc-evidence.ts";
import type { Tool } from "./doc-plan.ts";
import {
  checkStage,
  executablesOf,
  keptOf,
  refuseChangedFiles,
  refuseDifferences,
  sharedBy,
  withLaunchers,
  without,
} from "./eco-build-check.ts";
import {
  BUILD_FILES,
  type BuildReceipt,
  DECISION,
  writeBuildReceipt,
  writeRefusal,
} from "./eco-build-receipt.ts";
import { type BuildRun, readBuildRun, reportStep } from "./eco-build-run.ts";
import { layStage, runTool, type ToolRun, workerOf } from "./eco-build-tool.ts";
import { directoryId, exchangeRoot, type ManagedPlaces, managedPlaces } from "./eco-exchange.ts";
import { filesOf } from "./eco-fetch.ts";
import type { ManagedStore, ManagedTool, SignedFile, Tree } from "./eco-managed.ts";
import { installedBeside, type PathOrigin, restoredOver, stageRecord } from "./eco-record.ts";
import { replacedTree } from "./eco-rollback.ts";
import { OUTPUT_FILES } from "./eco-run.ts";
import type { SandboxEnd } from "./eco-sandbox.ts";
import { CLOSED_MODE, readRoot, readTree, treeDigest, treeReader } from "./eco-stage.ts";
import { copyTrees, type Source, unionOf } from "./eco-stage-copy.ts";
import { AegisError, messageOf } from "./errors.ts";
import { tryFlock } from "./sys-ffi.ts";
import { createFileExclusive } from "./sys-files.ts";
import { noSpace } from "./sys-state.ts";

/*
 * The supervisor of one build: copies the managed root to a stage, lets the tool work on that in a sandbox, compares what it left with
 * the signed bytes, and exchanges root and copy. It is root's, and the only process that writes to managed roots.
 */

/** With less than this left a disk is called full. */
const FULL_BYTES = 256 * 1024;

/**
 * Runs the build that `directory` describes, to its end. Returns the exit status: 1 where the root stays as it was, for the reason in
 * the refusal file.
 */
export async function superviseBuild(
  directory: string,
  load: (tool: Tool) => Promise<ManagedTool>,
): Promise<0 | 1> {
  const build = new Build(directory, readBuildRun(directory));
  const alive = openSync(join(directory, BUILD_FILES.alive), "a", 0o600);
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
    process.on(signal, () => stop.abort(new AegisError("interrupted", "it was told to stop")));
  try {
    tryFlock(alive);
    await build.run(await load(build.tool), stop.signal);
    return 0;
  } catch (thrown) {
    const error = noSpace(thrown, directory) ?? thrown;
    const code = error instanceof AegisError ? error.code : "internal";
    // What the tool wrote may be what fills the disk, and the reason must not be lost.
    build.clean();
    rmSync(join(directory, BUILD_FILES.reserve), { force: true });
    if (code !== "interrupted") writeRefusal(directory, code, messageOf(error));
    build.note(messageOf(error));
    return 1;
  } finally {
    build.clean();
    rmSync(join(directory, BUILD_FILES.reserve), { force: true });
    closeSync(alive);
  }
}

/** From one content of a root to another. */
interface Change {
  tool: ManagedTool;
  places: ManagedPlaces;
  before: Tree;
  /** What the root will hold, together. */
  sources: readonly Source[];
  files: readonly SignedFile[];
  /** What a path of those is there by. */
  origin: PathOrigin;
}

class Build {
  readonly #directory: string;
  readonly #given: BuildRun;
  readonly #execution: string;
  readonly #stage: string;
  /** Set while the stage may hold the previous content. */
  #isHalfway = false;

  constructor(directory: string, given: BuildRun) {
    this.#directory = directory;
    this.#given = given;
    this.#execution = basename(directory);
    this.#stage = join(given.state, "stage", this.#execution);
  }

  get tool() {
    return this.#given.plan.tool;
  }

  async run(tool: ManagedTool, stop: AbortSignal): Promise<void> {
    const { store } = tool;
    const places = managedPlaces(this.#given.state, tool.root);
    reportStep("copying");
    const before = readRoot(places.root, store);
    if (bringsBack(this.#given.plan)) {
      const restored = replacedTree(this.#given.plan, places, before, store);
      const origin = restoredOver(before, restored.tree);
      this.#exchange({ tool, places, before, sources: [restored], files: [], origin }, stop);
      return;
    }
    const files = filesOf(this.#given.plan, this.#given.files);
    const run = { tool, directory: this.#directory, given: this.#given, stage: this.#stage, files };
    const left = layStage(run, places.root, tool.keeps === undefined ? before : new Map());
    reportStep("building");
    // Also after a failure, of which a changed file may be the reason.
    const end = await runTool(run, (line) => this.note(line), stop).finally(() => refuseChangedFiles(files));
    this.#refuseFailed(end);
    reportStep("comparing");
    const stage = store === undefined ? left : await this.#settled(run, store, left);
    const made = readTree(stage, store === undefined ? workerOf(run).uid : 0, store);
    const trees = { before, after: made, root: places.root, stage };
    const after = await checkStage(tool, { plan: this.#given.plan, files, ...trees });
    const kept = keptOf(tool, trees);
    // What whole directories hold is there already: the files of the root, instead of their equals.
    const shared = sharedBy(before, after);
    const sources = [
      { tree: without(after, shared), from: stage },
      { tree: new Map([...kept, ...shared]), from: places.root },
    ];
    const origin = installedBeside(tool.keeps === undefined ? before : kept);
    this.#exchange({ tool, places, before, sources, files, origin }, stop);
  }

  /** What the tool of a store left, compared and made root's. */
  async #settled(run: ToolRun, store: ManagedStore, left: string): Promise<string> {
    const { files } = run;
    const stage = join(this.#stage, "settled");
    const firstUser = workerOf(run).uid;
    const note = (line: string) => this.note(line);
    refuseDifferences(await store.settle({ plan: this.#given.plan, files, left, stage, firstUser, note }));
    return stage;
  }

  /** @throws AegisError `execution_failed` */
  #refuseFailed({ status, exceeded }: SandboxEnd): void {
    const [name] = this.#given.argv;
    if (exceeded !== null) throw new AegisError("execution_failed", `${name} was ended: ${exceeded}`);
    if (status === 0) return;
    const how = status === null ? "a signal" : `status ${status}`;
    const { bavail, bsize, ffree } = statfsSync(this.#stage);
    const isFull = bavail * bsize < FULL_BYTES || ffree === 0;
    throw new AegisError(
      "execution_failed",
      `${name} ended with ${how}${isFull ? `, and the disk of ${this.#given.state} is full` : ""}`,
    );
  }

  /** Makes a tree of root's from `from` and exchanges it with the root. Once it is claimed, nothing stops it. */
  #exchange({ tool, places, before, sources, files, origin }: Change, stop: AbortSignal): void {
    const next = join(this.#stage, "next");
    mkdirSync(this.#stage, { recursive: true, mode: 0o700 });
    copyTrees(sources, next, null);
    if (tool.store !== undefined) chmodSync(next, CLOSED_MODE);
    const all = unionOf(sources);
    // What comes back has the launchers of its time: its digest is signed.
    const after = bringsBack(this.#given.plan) ? all : withLaunchers(tool, all, next);
    const executables = executablesOf(tool, after, next, places);
    const left = stageRecord(this.#stage, this.#given.state, {
      ...{ plan: this.#given.plan, root: tool.root, execution: this.#execution, after, origin, executables },
      inventory: tool.inventory(after, treeReader(next, after)),
      listsParts: tool.recordsRequestedOnly?.listsParts === true,
    });
    stop.throwIfAborted();
    if (!createFileExclusive(join(this.#directory, BUILD_FILES.decision), DECISION.exchange))
      throw new AegisError("interrupted", "it was told to stop");
    reportStep("exchanging");
    const receipt: BuildReceipt = {
      root: tool.root,
      files: files.map(({ sha256 }) => sha256).sort(),
      tree_before: treeDigest(before),
      tree_after: treeDigest(after),
      directory_id: directoryId(next),
      left,
      executables,
      shared: [...sharedBy(before, after).keys()],
      undoes: bringsBack(this.#given.plan) ? (this.#given.plan.targets[0] ?? null) : null,
    };
    writeBuildReceipt(this.#directory, receipt);
    this.#isHalfway = true;
    exchangeRoot(next, this.#execution, places, receipt);
    this.#isHalfway = false;
    reportStep("done");
  }

  /** Adds a line to the run's standard error. */
  note(line: string): void {
    appendFileSync(join(this.#directory, OUTPUT_FILES.stderr), `aegis: ${line}\n`);
  }

  /**
   * Removes the stage, unless it may hold the previous content: then {@link sweepStages} finishes the exchange or removes it. Never
   * throws, since what is left is removed before the next run.
   */
  clean(): void {
    if (this.#isHalfway) return;
    try {
      rmSync(this.#stage, { recursive: true, force: true });
    } catch (error) {
      this.note(`the stage can't be removed: ${messageOf(error)}`);
    }
  }
}
