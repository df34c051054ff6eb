import { describe, expect, test } from "bun:test";
import { renderDenial } from "../src/cmd-policy-view.ts";
import { pinnedRequest } from "../src/cmd-remedy.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { upgrade } from "./policy-plans.ts";

const plan = (over: Partial<OperationPlan>): OperationPlan => ({
  ...upgrade(),
  ecosystem: "npm",
  operation: "install",
  mutable_reference: true,
  denied_targets: [],
  ...over,
});

describe("a request that leaves versions open is followed by the one that names them", () => {
  test("every target by its version", () => {
    const open = plan({ targets: ["lodash", "chalk@^5"], exact_targets: ["lodash@4.17.21", "chalk@5.3.0"] });
    const step = pinnedRequest(open);
    expect(step?.argv).toEqual(["aegis", "plan", "npm", "install", "lodash@4.17.21", "chalk@5.3.0"]);
    const terminal = { color: false, width: 80, unicode: true, interactive: false };
    const shown = renderDenial(
      {
        reasons: ["a target is not pinned"],
        rules: [],
        besides: [],
        policy: "built-in",
        missing: [],
        settings: [],
      },
      terminal as never,
      { plan: "latest", pinned: step },
    );
    expect(shown).toContain("Next, you: aegis plan npm install lodash@4.17.21 chalk@5.3.0");
    expect(shown).not.toContain("plan something else");
  });

  test.each<[string, Partial<OperationPlan>]>([
    ["pinned already", { mutable_reference: false, targets: ["a@1.0.0"], exact_targets: ["a@1.0.0"] }],
    ["not resolved", { targets: ["a", "b"], exact_targets: ["a@1.0.0"] }],
    ["nothing found", { targets: ["a"], exact_targets: [] }],
    [
      "a denied target",
      {
        targets: ["./a"],
        exact_targets: ["a@1.0.0"],
        denied_targets: [{ target: "./a", signal: "local-path-denied" }],
      },
    ],
  ])("none for %s", (_, over) => expect(pinnedRequest(plan(over))).toBeUndefined());
});
