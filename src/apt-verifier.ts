import { existsSync } from "node:fs";
import { type GoodSignature, parseGpgStatus } from "./apt-keyring.ts";
import { parseSqvSigners, sqvEnvironment } from "./apt-sqv.ts";
import type { CommandEvidence } from "./doc-plan-evidence.ts";
import type { Planning, PlanningOutput } from "./eco-planning.ts";

/** Signed files, in the forms the two programs take. */
export interface SignedFiles {
  /** For gpgv: the InRelease, or a detached signature and the Release file. */
  clearSigned: readonly string[];
  /** For sqv: a detached signature and the signed file. */
  detached(): readonly [signature: string, signed: string];
}

/**
 * Finds which keys in keyrings signed a file, with gpgv, or with sqv if that is missing, as on a minimal Debian 13.
 * Runs once per question.
 */
export class Verifier {
  /** True once neither program was found. */
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
    // gpgv exits with 2 if any signature is by a key outside the keyring, even if another is good.
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

  /** In order of request, not completion. A missing program is omitted if the other was found. */
  commands(): CommandEvidence[] {
    const all = [...this.#runs.keys()].flatMap((key) => this.#evidence.get(key) ?? []);
    return this.missing ? all : all.filter(({ outcome }) => outcome !== "missing");
  }
}
