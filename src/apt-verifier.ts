import { existsSync } from "node:fs";
import { type GoodSignature, parseGpgStatus } from "./apt-keyring.ts";
import { parseSqvSigners, sqvEnvironment } from "./apt-sqv.ts";
import type { CommandEvidence } from "./doc-plan.ts";
import type { Planning, PlanningOutput } from "./eco-planning.ts";

/** What is signed, in the two forms that the programs take. */
export interface SignedFiles {
  /** What gpgv reads: the InRelease, or a detached signature and the Release file. */
  clearSigned: readonly string[];
  /** What sqv reads: a detached signature and what it signs. */
  detached(): readonly [signature: string, signed: string];
}

/**
 * Asks which keys of some keyrings signed a file: gpgv, and where that is not installed sqv, which a minimal Debian 13 has
 * instead. One run for each question.
 */
export class Verifier {
  /** True as soon as a question found neither program. */
  missing = false;
  readonly #planning: Planning;
  readonly #runs = new Map<string, Promise<PlanningOutput>>();
  readonly #evidence = new Map<string, CommandEvidence>();

  constructor(planning: Planning) {
    this.#planning = planning;
  }

  async verify(files: SignedFiles, keyrings: readonly string[]): Promise<GoodSignature[]> {
    if (keyrings.length === 0) return [];
    const keys = keyrings.flatMap((path) => ["--keyring", path]);
    const gpgv = await this.#run(["gpgv", "--status-fd", "1", ...keys, ...files.clearSigned]);
    // A signature by a key that isn't in the keyring makes gpgv exit with 2 although another one is good.
    if (gpgv.evidence.outcome === "ok" || gpgv.evidence.outcome === "failed") {
      return parseGpgStatus(gpgv.stdout).good;
    }
    if (gpgv.evidence.outcome !== "missing") return [];
    const sqv = await this.#run(["sqv", ...keys, ...files.detached()]);
    if (sqv.evidence.outcome === "missing") this.missing = true;
    return sqv.evidence.outcome === "ok" ? parseSqvSigners(sqv.stdout) : [];
  }

  async #run(argv: readonly string[]): Promise<PlanningOutput> {
    const key = argv.join("\0");
    const settings = () => (argv[0] === "sqv" ? { variables: sqvEnvironment(existsSync) } : {});
    const running = this.#runs.get(key) ?? this.#planning.run(argv, { settings });
    this.#runs.set(key, running);
    const output = await running;
    this.#evidence.set(key, output.evidence);
    return output;
  }

  /** In the order they were asked for, whatever order they ended in. One program that is not there is none where the other is. */
  commands(): CommandEvidence[] {
    const all = [...this.#runs.keys()].flatMap((key) => this.#evidence.get(key) ?? []);
    return this.missing ? all : all.filter(({ outcome }) => outcome !== "missing");
  }
}
