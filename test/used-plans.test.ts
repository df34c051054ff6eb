import { expect, test } from "bun:test";
import { AegisError } from "../src/errors.ts";
import { rememberUsedPlans } from "../src/used-plans.ts";

const used = new AegisError("replay", "it was used", "", { used: true });

test("a used plan is refused again as the runner refused it", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", used);
  expect(() => plans.check("a")).toThrow("it was used");
  expect(() => plans.check("b")).not.toThrow();
});

test("what may pass is not remembered: a plan that waits, drift, a busy executor", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", new AegisError("replay", "it waits already"));
  plans.learn("a", new AegisError("drift", "changed", "", { used: true }));
  plans.learn("a", new AegisError("busy", "later"));
  expect(() => plans.check("a")).not.toThrow();
});

test("memory is bounded, the oldest go first", () => {
  const plans = rememberUsedPlans();
  for (let i = 0; i <= 1000; i++) plans.learn(String(i), used);
  expect(() => plans.check("0")).not.toThrow();
  expect(() => plans.check("1")).toThrow();
  expect(() => plans.check("1000")).toThrow();
});
