import { describe, expect, test } from "bun:test";
import { subjectDetails } from "../src/audit-subject.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { entry, install, removal, upgrade } from "./policy-plans.ts";

const many = (count: number, version = "1.0") =>
  Array.from({ length: count }, (_, n) => entry(`package-number-${n}`, { to_version: version }));

describe("an event's description of a plan", () => {
  test("thousands of packages leave room for the rest of the event, and the count is right", () => {
    const details = subjectDetails(upgrade({ transaction: many(5000) }));
    expect(JSON.stringify(details).length).toBeLessThan(4100);
    expect(details.packages_count).toBe(5000);
    expect(Object.values(details.packages).flat().length).toBeGreaterThan(100);
  });

  test("removals come first and are dropped last", () => {
    const details = subjectDetails(upgrade({ transaction: [...many(5000), removal("essential-thing")] }));
    expect(Object.keys(details.packages)[0]).toBe("remove");
    expect(details.packages.remove).toEqual(["essential-thing"]);
  });

  test("a long target is cut", () => {
    const targets = Array.from({ length: 200 }, (_, n) => `target-${n}`);
    expect(subjectDetails(install({ targets })).operation.length).toBe(500);
  });

  const foreign: Partial<TransactionEntry> = { architecture: "i386" };
  test.each<[string, TransactionEntry[], object]>([
    ["none", [], {}],
    ["with versions", [entry("nginx", { to_version: "1.22" })], { install: ["nginx 1.22"] }],
    [
      "of all architectures",
      [entry("nginx", { architecture: "all", to_version: "1" })],
      { install: ["nginx 1"] },
    ],
    ["of a foreign one", [entry("nginx", { ...foreign, to_version: "1" })], { install: ["nginx:i386 1"] }],
    [
      "a removal has its old version",
      [removal("apache2", { from_version: "2.4" })],
      { remove: ["apache2 2.4"] },
    ],
    [
      "without versions where those leave no room",
      many(140, "1".repeat(20)),
      { install: many(140).map((e) => e.name) },
    ],
  ])("packages: %s", (_, transaction, packages) => {
    const plan = install({
      transaction: transaction.map((one) => ({
        ...one,
        action: one.action === "remove" ? "remove" : "install",
      })),
    });
    expect(subjectDetails(plan)).toEqual({
      operation: "apt install hello",
      packages,
      packages_count: transaction.length,
    });
  });
});
