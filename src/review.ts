import { defineSubcommand } from "./command.ts";
import { AegisError } from "./errors.ts";

/** Not built yet: policy and sign accept a review that was made elsewhere. */
export const review = defineSubcommand({
  name: "review",
  description: "Asks the local model for a review of a plan (not built yet).",
  args: {
    plan: { type: "positional", required: true, description: "a plan: path, id, id prefix, latest, or -" },
  },
  async run() {
    throw new AegisError(
      "not_built",
      "aegis review is not built yet in this version",
      "A review is optional: go on with aegis policy <plan>.",
    );
  },
});
