import { describe, expect, test } from "bun:test";
import { cargoGrammar } from "../src/cargo-target.ts";
import type { Grammar } from "../src/eco-grammar.ts";
import { AegisError } from "../src/errors.ts";
import { npmGrammar } from "../src/npm-target.ts";
import { pipGrammar } from "../src/pip-target.ts";

/*
 * A version after another tool's sign is the commonest slip between ecosystems.
 */

function hintOf({ parseTargets }: Grammar, target: string): string {
  try {
    parseTargets("install", [target]);
  } catch (error) {
    if (error instanceof AegisError) return error.hint;
    throw error;
  }
  throw new Error(`${target} is a target`);
}

describe("a version after another tool's sign", () => {
  test.each([
    [pipGrammar, "flask@3.0", "flask==3.0"],
    [pipGrammar, "flask=3.0.1", "flask==3.0.1"],
    [pipGrammar, "flask===3.0", "flask==3.0"],
    [npmGrammar, "left-pad==1.0.0", "left-pad@1.0.0"],
    [npmGrammar, "lodash=4.17.21", "lodash@4.17.21"],
    [cargoGrammar, "ripgrep==14.1.1", "ripgrep@14.1.1"],
  ] as [Grammar, string, string][])("%#: the hint is what was meant", (grammar, given, meant) =>
    expect(hintOf(grammar, given)).toEndWith(` here: ${meant}`),
  );

  test.each([
    [pipGrammar, "flask>=3"],
    [pipGrammar, "flask@latest"],
    [pipGrammar, "fläsk@3.0"],
    [pipGrammar, "flask==latest"],
    [npmGrammar, "Left Pad@1"],
    [cargoGrammar, "ripgrep==14;id"],
  ] as [Grammar, string][])("%#: wrong in another way", (grammar, given) =>
    expect(hintOf(grammar, given)).toStartWith("Name it as in "),
  );
});
