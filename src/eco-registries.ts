import * as v from "valibot";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { readToml } from "./sys-toml.ts";

const text = v.optional(v.pipe(v.string(), v.minLength(1)));

/** The registries of this host, for tools that have no configuration in /etc: the executor plans with them. */
const Registries = v.strictObject({
  cargo: v.optional(v.strictObject({ index: text }), {}),
  go: v.optional(v.strictObject({ proxy: text, sumdb: text }), {}),
  npm: v.optional(v.strictObject({ registry: text }), {}),
  pip: v.optional(v.strictObject({ index_url: text }), {}),
});

/**
 * Reads /etc/aegis/registries.toml; without the file nothing is set.
 * @throws AegisError `invalid_config` naming the key
 */
export function hostRegistries(readText: (path: string) => string | null): v.InferOutput<typeof Registries> {
  const { settings, problem } = readToml(readText(SYSTEM.registries) ?? "", Registries);
  if (problem === null) return settings;
  throw new AegisError(
    "invalid_config",
    `${SYSTEM.registries} can't be used: ${problem}`,
    "Correct the file.",
  );
}
