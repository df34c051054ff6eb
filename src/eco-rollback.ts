import { existsSync } from "node:fs";
import { join } from "node:path";
import { UUID } from "./canonical.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { readBuildReceipt } from "./eco-build-receipt.ts";
import { isExchanged, type ManagedPlaces } from "./eco-exchange.ts";
import type { Tree } from "./eco-managed.ts";
import { readTree, treeDigest } from "./eco-stage.ts";
import { AegisError } from "./errors.ts";

/*
 * Undoing a run of a managed root: the content that it replaced comes back, if nothing has happened since.
 */

export function isRollback({ operation }: Pick<OperationPlan, "operation">): boolean {
  return operation === "rollback";
}

/**
 * The content that an execution replaced. `runs` is the directory of run directories, `before` the root as it is now.
 * @throws AegisError `not_found` if it isn't kept any more, `drift` if the root is not what that execution left, `refused` if what was
 * kept is not what was there
 */
export function replacedTree(
  plan: Pick<OperationPlan, "targets">,
  runs: string,
  places: ManagedPlaces,
  before: Tree,
): { tree: Tree; from: string } {
  const [execution = ""] = plan.targets;
  const receipt = UUID.test(execution) ? readBuildReceipt(join(runs, execution)) : null;
  const from = join(places.previous, execution);
  if (receipt === null || !existsSync(from))
    throw new AegisError(
      "not_found",
      `what execution ${execution} replaced isn't kept any more`,
      "Install the earlier versions by name.",
    );
  if (!isExchanged(receipt, places) || treeDigest(before) !== receipt.tree_after)
    throw new AegisError(
      "drift",
      `${places.root} is not what execution ${execution} left`,
      "Undo what came after it first; see: aegis daemon status",
    );
  const tree = readTree(from, process.getuid?.() ?? 0);
  if (treeDigest(tree) !== receipt.tree_before)
    throw new AegisError("refused", `${from} is not what was there before execution ${execution}`);
  return { tree, from };
}
