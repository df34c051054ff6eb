import { canonicalJson } from "../src/canonical.ts";
import { type EvaluateInput, evaluate } from "../src/policy.ts";

/* Policy in a separate process: inputs as a JSON array on standard input, canonical results as one on standard output. */

const inputs: EvaluateInput[] = JSON.parse(await Bun.stdin.text());
process.stdout.write(JSON.stringify(inputs.map((input) => canonicalJson(evaluate(input)))));
