import { expect, test } from "bun:test";
import { AegisError } from "../src/errors.ts";
import { rememberUsedPlans } from "../src/used-plans.ts";

const used = new AegisError("replay", "it was used", "", { used: true });
const expired = new AegisError("expired", "it has expired");

test("a used plan is refused again as the runner refused it, also once it has expired", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", used);
  expect(() => plans.check("a", null)).toThrow("it was used");
  expect(() => plans.check("a", expired)).toThrow("it was used");
  expect(() => plans.check("b", null)).not.toThrow();
});

test("what may pass is not remembered: a plan that waits, drift, a busy executor", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", new AegisError("replay", "it waits already"));
  plans.learn("a", new AegisError("drift", "changed", "", { used: true }));
  plans.learn("a", new AegisError("busy", "later"));
  expect(() => plans.check("a", null)).not.toThrow();
});

test("an expired plan is the runner's to judge once: only that knows whether it was used", () => {
  const plans = rememberUsedPlans();
  expect(() => plans.check("a", expired)).not.toThrow();
  plans.learn("a", new AegisError("expired", "so says the runner"));
  expect(() => plans.check("a", expired)).toThrow("it has expired");
  expect(() => plans.check("b", expired)).not.toThrow();
});

test("a plan that is in force after all goes to the runner, which is asked again when it has expired", () => {
  const plans = rememberUsedPlans();
  plans.learn("a", new AegisError("not_yet_valid", "so says the runner"));
  expect(() => plans.check("a", null)).not.toThrow();
  expect(() => plans.check("a", expired)).not.toThrow();
});

test("memory is bounded, the oldest go first", () => {
  const plans = rememberUsedPlans();
  for (let i = 0; i <= 1000; i++) plans.learn(String(i), used);
  expect(() => plans.check("0", null)).not.toThrow();
  expect(() => plans.check("1", null)).toThrow();
  expect(() => plans.check("1000", null)).toThrow();
});
