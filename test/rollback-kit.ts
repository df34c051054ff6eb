import { expect } from "bun:test";
import type { Chain } from "./e2e-kit.ts";

/*
 * Going back, with the compiled program: an upgrade of what is installed is rolled back, and that too.
 */

/** `undone` is what bringing an older version back means: where versions stand side by side, the newer one goes. `newer` is a target whose installation changes what `ran` returns: what the command prints. */
export async function provesRollback(
  chain: Chain,
  tool: string,
  newer: string,
  ran: () => Promise<string>,
  undone: "downgrade" | "remove" = "downgrade",
): Promise<void> {
  const apply = async ({ path }: { path: string }, user: "root" | "alice" = "root") => {
    const { status, stdout, stderr } = await chain.apply(path, user);
    expect([status, stderr]).toEqual([0, expect.not.stringContaining("error")]);
    return stdout;
  };
  const installed = async () => {
    const { status, document } = await chain.json(["audit", "installed", tool], "alice");
    const { roots } = document as { roots: { tool: string; deviations: object[]; execution: string }[] };
    const found = roots.find((root) => root.tool === tool);
    expect([status, found?.deviations]).toEqual([0, []]);
    return found?.execution;
  };
  const old = await ran();
  const upgrade = await chain.signed(tool, "install", newer);
  const { execution_plan_id: id } = upgrade.execution;
  expect(await apply(upgrade)).toContain(`aegis plan rollback ${id}`);
  const changed = await ran();
  expect(changed).not.toBe(old);

  // A member of aegis-admin plans what root does.
  const undo = await chain.signed("rollback", id);
  const { operation_plan: plan, argv, policy_decision, policy_result } = undo.execution;
  const { document } = await chain.json(["plan", "rollback", id.slice(0, 8)], "alice");
  const { transaction, provenance_evidence, warnings } = plan;
  expect(document).toMatchObject({ plan: { transaction, provenance_evidence, warnings } });
  expect(transaction.map(({ action }) => action)).toContain(undone);
  expect(plan.network_access).toBe(false);
  expect(argv).toEqual(["aegis", "rollback", tool, expect.stringContaining("/var/lib/aegis/"), id]);
  expect([policy_decision, policy_result.rules]).toEqual([
    "require_human",
    expect.arrayContaining(["managed-rollback"]),
  ]);
  const stranger = await chain.aegis(["plan", tool, "rollback", id], { user: "bob" });
  expect([stranger.status, stranger.stderr]).toEqual([2, expect.stringContaining("aegis-admin")]);

  await apply(undo, "alice");
  expect(await ran()).toBe(old);
  expect(await installed()).toBe(undo.execution.execution_plan_id);
  expect((await chain.apply(undo.path)).status).toBe(6);
  const again = await chain.aegis(["plan", "rollback", id]);
  const { execution_plan_id: undoing } = undo.execution;
  expect(again.status).toBe(9);
  expect(again.stderr).toContain(`execution ${id} is undone already`);
  expect(again.stderr).toContain(`aegis plan rollback ${undoing}`);

  await apply(await chain.signed("rollback", undoing));
  expect(await ran()).toBe(changed);
  await installed();
  expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
}
