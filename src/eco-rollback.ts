import { existsSync } from "node:fs";
import { join } from "node:path";
import { UUID } from "./canonical.ts";
import { CONTENT_LEFT, CONTENT_REPLACED } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { ManagedPlaces } from "./eco-exchange.ts";
import type { ManagedStore, Tree } from "./eco-managed.ts";
import { readRoot, treeDigest } from "./eco-stage.ts";
import { AegisError } from "./errors.ts";

/*
 * Undoing a run of a managed root: the content that it replaced comes back, if the root still holds what it left.
 */

/**
 * The content that an execution replaced, compared with the digests of the signed plan. `before` is the root as it is now.
 * @throws AegisError `not_found` if it isn't kept any more, `drift` if the root is not what that execution left, `refused` if what is
 * kept is not what was there, `invalid_document` for a plan without the digests
 */
export function replacedTree(
  plan: Pick<OperationPlan, "targets" | "provenance_evidence">,
  places: ManagedPlaces,
  before: Tree,
  store?: ManagedStore,
): { tree: Tree; from: string } {
  const [execution = ""] = plan.targets;
  const [left, replaced] = [CONTENT_LEFT, CONTENT_REPLACED].map((kind) =>
    plan.provenance_evidence.find((one) => one.kind === kind),
  );
  if (!UUID.test(execution) || left === undefined || replaced === undefined)
    throw new AegisError("invalid_document", "the plan doesn't say what its rollback brings back");
  const from = join(places.previous, execution);
  if (!existsSync(from))
    throw new AegisError("not_found", `what execution ${execution} replaced isn't kept any more`);
  if (treeDigest(before) !== left.subject)
    throw new AegisError("drift", `${places.root} is not what execution ${execution} left`);
  const tree = readRoot(from, store);
  if (treeDigest(tree) !== replaced.subject)
    throw new AegisError("refused", `${from} is not what was there before execution ${execution}`);
  return { tree, from };
}
