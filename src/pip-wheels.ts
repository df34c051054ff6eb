import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { type WheelProvenance, wheelProvenance } from "./pip-attestation.ts";
import type { PipConfig } from "./pip-config.ts";
import type { ResolveWorld } from "./pip-criteria.ts";
import { indexRequest, type Wheel } from "./pip-index.ts";
import { admitsPython, type MarkerEnvironment, type Requirement } from "./pip-requirement.ts";
import type { Resolved } from "./pip-resolve.ts";
import { readMetadata, readWheel, type WheelContents, type WheelMetadata } from "./pip-wheel.ts";

/*
 * Fetches what the search for versions asks for, metadata (PEP 658) where the index offers it and wheels where it doesn't, and in
 * the end every wheel of the closure.
 */

const AT_ONCE = 8;

export interface PlannedWheel extends Resolved {
  contents: WheelContents;
  provenance: WheelProvenance;
}

export function wheelReader(config: PipConfig, environment: MarkerEnvironment, planning: Planning) {
  const slots = limiter(AT_ONCE);
  const unusable = new Map<string, string>();

  const contentsOf = remember(
    (wheel): Promise<WheelContents> =>
      slots(async () => {
        const digest = { algorithm: "sha256", hex: wheel.sha256 } as const;
        const { bytes } = await planning.packageFile(wheel.url, digest, indexRequest(wheel.url, config));
        try {
          return readWheel(bytes, wheel);
        } catch (error) {
          if (!(error instanceof AegisError)) throw error;
          throw new AegisError(error.code, `${wheel.filename}: ${error.message}`, error.hint);
        }
      }),
  );

  const metadataOf = remember(async (wheel): Promise<WheelMetadata> => {
    const { metadataSha256: hex } = wheel;
    if (hex === null) return (await contentsOf(wheel)).metadata;
    const url = new URL(`${wheel.url.href}.metadata`);
    const { bytes } = await slots(() =>
      planning.packageFile(url, { algorithm: "sha256", hex }, indexRequest(url, config)),
    );
    const metadata = readMetadata(bytes, wheel);
    if (typeof metadata === "string")
      throw new AegisError("refused", `${wheel.filename} can't be used: ${metadata}`);
    return metadata;
  });

  const requirements: ResolveWorld["requirements"] = async (wheel, extras) => {
    const { requires, requiresPython } = await metadataOf(wheel);
    const applying = requires.filter((one) => one.applies(environment, extras));
    const why = admitsPython(requiresPython, environment.python_full_version ?? "")
      ? byAddress(applying)
      : `it is for Python ${requiresPython}`;
    if (why === null)
      return extras.length === 0 ? applying : applying.filter((one) => !one.applies(environment, []));
    const text = `${wheel.name} ${wheel.version} can't be used: ${why}`;
    unusable.set(wheel.name, text);
    return text;
  };

  /** The closure by name, with the contents and the attestations of its wheels, each of them checked. */
  const read = (closure: readonly Resolved[], project: ResolveWorld["project"]): Promise<PlannedWheel[]> =>
    Promise.all(
      closure
        .toSorted((a, b) => (a.wheel.name < b.wheel.name ? -1 : 1))
        .map(async (one) => {
          const { wheel } = one;
          const [contents, metadata, provenance] = await Promise.all([
            contentsOf(wheel),
            metadataOf(wheel),
            project(wheel.name).then((page) => slots(() => wheelProvenance(wheel, page, config, planning))),
          ]);
          const problem =
            contents.metadata.sha256 === metadata.sha256
              ? contents.problem
              : "its metadata is not the one that the index offers beside it";
          if (problem === null) return { ...one, contents, provenance };
          throw new AegisError(
            "evidence_mismatch",
            `${wheel.filename} can't be used: ${problem}`,
            "Don't install it: report it to its maintainers.",
          );
        }),
    );

  return { requirements, unusable, read };
}

/** A requirement that names an address: no index vouches for what is there. */
function byAddress(requirements: readonly Requirement[]): string | null {
  const found = requirements.find(({ url }) => url !== null);
  return found === undefined
    ? null
    : `it needs ${found.name} from an address (${found.url?.slice(0, 200)}), not from the index`;
}

/** Not by the hash alone: an index may give one file two names, and what is checked of it depends on the name. */
function remember<R>(make: (wheel: Wheel) => Promise<R>): (wheel: Wheel) => Promise<R> {
  const made = new Map<string, Promise<R>>();
  return (wheel) => {
    const key = `${wheel.filename} ${wheel.sha256}`;
    const known = made.get(key) ?? make(wheel);
    made.set(key, known);
    return known;
  };
}

/** Runs at most `max` tasks at a time. */
function limiter(max: number): <R>(task: () => Promise<R>) => Promise<R> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (task) => {
    if (running >= max) await new Promise<void>((resolve) => waiting.push(resolve));
    running++;
    try {
      return await task();
    } finally {
      running--;
      waiting.shift()?.();
    }
  };
}
